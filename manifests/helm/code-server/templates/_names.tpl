{{/* The value of app.kubernetes.io/name. */}}
{{- define "code-server.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end }}

{{/* What the objects are called, which a Service can be. */}}
{{- define "code-server.fullname" -}}
{{- $name := include "code-server.name" . -}}
{{- $release := .Release.Name -}}
{{- $full := contains $name $release | ternary $release (printf "%s-%s" $release $name) -}}
{{- .Values.fullnameOverride | default $full | trunc 63 | trimSuffix "-" -}}
{{- end }}

{{/* What selects the server's pod, and never changes. */}}
{{- define "code-server.selector" -}}
app.kubernetes.io/name: {{ include "code-server.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* What every object carries, whatever it is about. */}}
{{- define "code-server.release" -}}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The labels of the server's objects. */}}
{{- define "code-server.labels" -}}
{{ include "code-server.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{ include "code-server.release" . }}
{{- end }}

{{- define "code-server.image" -}}
{{- if .Values.image.digest -}}
{{ printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else -}}
{{ printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) }}
{{- end -}}
{{- end }}

{{- define "code-server.serviceAccount" -}}
{{- $own := include "code-server.fullname" . -}}
{{- .Values.serviceAccount.name | default (.Values.serviceAccount.create | ternary $own "default") -}}
{{- end }}

{{- define "code-server.claim" -}}
{{- .Values.persistence.existingClaim | default (include "code-server.fullname" .) -}}
{{- end }}

{{- define "code-server.tokenSecret" -}}
{{- .Values.tokens.existingSecret | default (printf "%s-token" (include "code-server.fullname" .)) -}}
{{- end }}

{{- define "code-server.tlsSecret" -}}
{{- .Values.tls.existingSecret | default (printf "%s-tls" (include "code-server.fullname" .)) -}}
{{- end }}

{{/* Where pods of this namespace ask. */}}
{{- define "code-server.url" -}}
{{- $scheme := .Values.tls.enabled | ternary "https" "http" -}}
{{ printf "%s://%s:%v" $scheme (include "code-server.fullname" .) .Values.service.port }}
{{- end }}

{{/* The settings of the library chart, as JSON: those of the values, and what follows from the server's. */}}
{{- define "code-server.fetch" -}}
{{- $fetch := omit .Values.application.fetch "follow" -}}
{{- $_ := set $fetch "url" (include "code-server.url" .) -}}
{{- $_ := set $fetch "revision" .Values.application.revision -}}
{{- $image := .Values.application.fetch.image -}}
{{- $_ := set $fetch "image" (merge (dict "tag" ($image.tag | default .Chart.AppVersion)) $image) -}}
{{- if .Values.readToken.enabled -}}
{{- $_ := set $fetch "tokenSecret" (include "code-server.tokenSecret" .) -}}
{{- end -}}
{{- if .Values.tls.caConfigMap -}}
{{- $_ := set $fetch "caConfigMap" .Values.tls.caConfigMap -}}
{{- else if .Values.tls.enabled -}}
{{- $_ := set $fetch "caSecret" (include "code-server.tlsSecret" .) -}}
{{- end -}}
{{- toJson $fetch -}}
{{- end }}
