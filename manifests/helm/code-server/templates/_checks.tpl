{{/* Values that the schema takes one by one, and that make no sense together. */}}
{{- define "code-server.checks" -}}
{{- $code := .Values.code -}}
{{- if not (hasPrefix (printf "%s/" $code.mountPath) $code.root) -}}
{{- fail (printf "code.root is %s: it has to lie beneath code.mountPath, which is %s" $code.root $code.mountPath) -}}
{{- end -}}
{{- if and (or .Values.tokens.read .Values.tokens.write) .Values.tokens.existingSecret -}}
{{- fail "tokens: either existingSecret, or values for read and write" -}}
{{- end -}}
{{- $own := list "LISTEN" "METRICS_LISTEN" "STATE_DIR" "EXCLUDE" "WRITE_TOKEN_FILE" "READ_TOKEN_FILE"
  "TLS_CERT" "TLS_KEY" -}}
{{- $own = eq .Values.state.storage "emptyDir" | ternary (append $own "STATE_SIZE") $own -}}
{{- range .Values.extraEnv -}}
{{- if has (trimPrefix "CODE_SERVER_" .name) $own -}}
{{- fail (printf "extraEnv: %s is set by the chart, see what else there is in its values" .name) -}}
{{- end -}}
{{- end -}}
{{- $application := .Values.application -}}
{{- if not $application.name -}}
{{- range $part := list "autoscaling" "podDisruptionBudget" -}}
{{- if (index $.Values $part).enabled -}}
{{- fail (printf "%s is about an application: set application.name to the name of its Deployment" $part) -}}
{{- end -}}
{{- end -}}
{{- if $application.deployment.enabled -}}
{{- fail "application.deployment.enabled: set application.name, too" -}}
{{- end -}}
{{- end -}}
{{- if $application.deployment.enabled -}}
{{- $mounts := list -}}
{{- range $application.deployment.containers -}}
{{- range .volumeMounts -}}
{{- $mounts = append $mounts .name -}}
{{- end -}}
{{- end -}}
{{- if not (has "code" $mounts) -}}
{{- fail "application.deployment.containers: none mounts the volume `code`, as [{name: code, mountPath: /app}]" -}}
{{- end -}}
{{- end -}}
{{- $by := .Values.autoscaling -}}
{{- if and $by.enabled (not (or $by.cpu $by.memory $by.pods)) -}}
{{- fail "autoscaling is enabled: say by what, cpu, memory or pods" -}}
{{- end -}}
{{- if and $by.enabled (gt (int $by.minReplicas) (int $by.maxReplicas)) -}}
{{- fail (printf "autoscaling: minReplicas %v is more than maxReplicas %v" $by.minReplicas $by.maxReplicas) -}}
{{- end -}}
{{- end }}
