{{/*
What a pod needs to have its code fetched before it starts. Each template takes the same settings, a part of your own
values:

    url           where the code-server is, such as http://myapp-code-server:8080; the only one that must be there
    revision      sha256:… is waited for, and no other is taken; empty means whatever is served
    image         {repository, tag, digest, pullPolicy}
    args          more arguments for fetch-init; the sidecar has its own in followArgs, --signal or --on-change for one
    env           more variables for both
    resources     of the init container; those of the sidecar are followResources
    sizeLimit     of the emptyDir that holds the code
    tokenSecret   a Secret whose key `read` is the token that the server asks for
    caConfigMap   a ConfigMap whose key `ca.crt` vouches for a server that is asked by HTTPS
    caSecret      the same as a Secret, such as cert-manager's; no other key of it gets into the pod

The code is in the volume `code`: your container mounts that where it wants it.
*/}}

{{/* For the Deployment itself and for its pods: whom a code-server's NetworkPolicy lets in. */}}
{{- define "fetch-init.labels" -}}
code-server/client: "true"
{{- end }}

{{/*
For the pods. To change the revision is to roll them, and to undo the roll-out is to bring the code back. Without a
revision there is no annotation, so one that was set by `kubectl patch` outlives a `helm upgrade`.
*/}}
{{- define "fetch-init.annotations" -}}
{{- with .revision -}}
{{- if not (regexMatch "^sha256:[0-9a-f]{64}$" .) -}}
{{- fail (printf "revision %q is none: it is sha256: and 64 hexadecimal digits" .) -}}
{{- end -}}
code-server/revision: {{ . }}
{{- end -}}
{{- end }}

{{/* An entry of initContainers. */}}
{{- define "fetch-init.initContainer" -}}
- name: fetch-code
  {{- include "fetch-init.image" . | nindent 2 }}
  args: {{ concat (list "$(CODE_URL)" "/code") (.args | default list) | toJson }}
  env:
  {{- include "fetch-init.env" . | nindent 2 }}
  - name: FETCH_INIT_REVISION
    valueFrom:
      fieldRef: {fieldPath: "metadata.annotations['code-server/revision']"}
  {{- with .env }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  resources:
    {{- $requests := dict "cpu" "50m" "memory" "32Mi" "ephemeral-storage" "256Mi" }}
    {{- $limits := dict "cpu" "500m" "memory" "64Mi" "ephemeral-storage" "1Gi" }}
    {{- .resources | default (dict "requests" $requests "limits" $limits) | toYaml | nindent 4 }}
  {{- include "fetch-init.container" . | nindent 2 }}
{{- end }}

{{/* An entry of containers, behind your own: installs each new revision while the pod runs. */}}
{{- define "fetch-init.sidecar" -}}
- name: follow-code
  {{- include "fetch-init.image" . | nindent 2 }}
  {{- $more := concat (.args | default list) (.followArgs | default list) }}
  args: {{ concat (list "$(CODE_URL)" "/code" "--follow") $more | toJson }}
  env:
  {{- include "fetch-init.env" . | nindent 2 }}
  {{- with .env }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  resources:
    {{- $requests := dict "cpu" "10m" "memory" "32Mi" "ephemeral-storage" "16Mi" }}
    {{- $limits := dict "cpu" "500m" "memory" "64Mi" "ephemeral-storage" "1Gi" }}
    {{- .followResources | default (dict "requests" $requests "limits" $limits) | toYaml | nindent 4 }}
  {{- include "fetch-init.container" . | nindent 2 }}
{{- end }}

{{/* Entries of volumes. */}}
{{- define "fetch-init.volumes" -}}
- name: code
  emptyDir: {sizeLimit: {{ .sizeLimit | default "1Gi" }}}
{{- with .tokenSecret }}
- name: code-server-token
  secret: {secretName: {{ . }}, items: [{key: read, path: read}]}
{{- end }}
{{- if .caSecret }}
- name: code-server-ca
  secret: {secretName: {{ .caSecret }}, items: [{key: ca.crt, path: ca.crt}]}
{{- else if .caConfigMap }}
- name: code-server-ca
  configMap: {name: {{ .caConfigMap }}}
{{- end }}
{{- end }}

{{/* The rest is for the templates above. */}}

{{- define "fetch-init.image" -}}
{{- $image := .image | default dict -}}
{{- $repository := $image.repository | default "fetch-init" -}}
{{- if $image.digest -}}
image: {{ printf "%s@%s" $repository $image.digest | quote }}
{{- else -}}
image: {{ printf "%s:%s" $repository ($image.tag | default "0.1.0") | quote }}
{{- end }}
imagePullPolicy: {{ $image.pullPolicy | default "IfNotPresent" }}
{{- end }}

{{- define "fetch-init.env" -}}
- {name: CODE_URL, value: {{ required "url: where the code-server is, such as http://code-server:8080" .url | quote }}}
{{- if .tokenSecret }}
- {name: FETCH_INIT_TOKEN_FILE, value: /secrets/token/read}
{{- end }}
{{- if or .caSecret .caConfigMap }}
- {name: FETCH_INIT_CA_CERT, value: /certificates/ca.crt}
{{- end }}
{{- end }}

{{- define "fetch-init.container" -}}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
  seccompProfile:
    type: RuntimeDefault
terminationMessagePolicy: FallbackToLogsOnError
volumeMounts:
- {name: code, mountPath: /code}
{{- if .tokenSecret }}
- {name: code-server-token, mountPath: /secrets/token, readOnly: true}
{{- end }}
{{- if or .caSecret .caConfigMap }}
- {name: code-server-ca, mountPath: /certificates, readOnly: true}
{{- end }}
{{- end }}
