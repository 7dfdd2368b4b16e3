{{/*
The pools of the configuration, each with what it leaves open, as a JSON list. Fails for what no object can be made of.
*/}}
{{- define "agent-pool.pools" -}}
{{- $pools := .Values.pools | default list }}
{{- with .Values.pool }}
{{- $pools = append $pools . }}
{{- end }}
{{- $found := list }}
{{- $ids := list }}
{{- range $pools }}
{{- $pool := deepCopy . }}
{{- include "agent-pool.check" $pool }}
{{- if has $pool.pool_id $ids }}
{{- fail (printf "two pools have the pool_id %q" $pool.pool_id) }}
{{- end }}
{{- $ids = append $ids $pool.pool_id }}
{{- $_ := set $pool "env" (merge (dict) ($pool.env | default dict) ($.Values.env | default dict)) }}
{{- $_ := set $pool "revision" ($pool.revision | default $.Values.code.revision | default "") }}
{{- $_ := set $pool "windows" (include "agent-pool.windows" $pool | fromJson) }}
{{- $found = append $found $pool }}
{{- end }}
{{- toJson $found }}
{{- end }}

{{/* Fails for a pool that has names or numbers which Kubernetes would refuse, later and in other words. */}}
{{- define "agent-pool.check" -}}
{{- $id := .pool_id }}
{{- if not (regexMatch "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$" $id) }}
{{- fail (printf "the pool_id %q is no DNS label: only a-z, 0-9 and inner hyphens name a Deployment" $id) }}
{{- end }}
{{- /* freeze-hhmm- and the eleven characters that a CronJob's jobs have at their end leave this much. */}}
{{- if gt (len $id) 40 }}
{{- fail (printf "the pool_id %q has %d characters: 40 at most leave room for what is made of it" $id (len $id)) }}
{{- end }}
{{- if not (regexMatch "^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$" .name) }}
{{- fail (printf "the name %q of pool %s is no label: 63 of A-Z, a-z, 0-9 and inner - _ . at most" .name $id) }}
{{- end }}
{{- if gt (int .min_replicas) (int .max_replicas) }}
{{- fail (printf "pool %s has min_replicas %d above its max_replicas %d" $id (int .min_replicas) (int .max_replicas)) }}
{{- end }}
{{- range list "POOL_ID" "POOL_NAME" "POOL_TYPE" "API_ENDPOINT" "HOST_IP" "IAC_AGENT_NAME" }}
{{- if hasKey ($.env | default dict) . }}
{{- fail (printf "pool %s sets %s in its env, which comes from elsewhere" $id .) }}
{{- end }}
{{- end }}
{{- end }}

{{/* What tells the objects of a pool from others. */}}
{{- define "agent-pool.selector" -}}
app: iac-platform
component: agent
pool-id: {{ .pool_id | quote }}
{{- end }}

{{- define "agent-pool.labels" -}}
{{ include "agent-pool.selector" . }}
pool-name: {{ .name | quote }}
{{- end }}

{{/* What a namespace that restricts its pods asks of a container. */}}
{{- define "agent-pool.security" -}}
runAsNonRoot: true
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end }}
