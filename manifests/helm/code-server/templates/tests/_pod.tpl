{{/* A pod that asks the server as an application would: with its label, its token and its authorities. */}}
{{- define "code-server.test" -}}
{{- $fetch := include "code-server.fetch" .root | fromJson -}}
apiVersion: v1
kind: Pod
metadata:
  name: {{ include "code-server.fullname" .root }}-test-{{ .name }}
  labels:
    app.kubernetes.io/name: {{ include "code-server.name" .root }}-test
    app.kubernetes.io/instance: {{ .root.Release.Name }}
    {{- include "fetch-init.labels" $fetch | nindent 4 }}
    {{- include "code-server.release" .root | nindent 4 }}
  annotations:
    helm.sh/hook: test
    helm.sh/hook-weight: {{ .weight | quote }}
    # One that failed stays until the next time, for `kubectl logs` and `kubectl describe`: `--logs` finds no other.
    helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
spec:
  {{- with .root.Values.imagePullSecrets }}
  imagePullSecrets:
  {{- toYaml . | nindent 2 }}
  {{- end }}
  restartPolicy: {{ .restart }}
  activeDeadlineSeconds: 90
  automountServiceAccountToken: false
  enableServiceLinks: false
  containers:
  - name: {{ .name }}
    image: {{ include "code-server.image" .root | quote }}
    imagePullPolicy: {{ .root.Values.image.pullPolicy }}
    command: {{ toJson .command }}
    env:
    {{- include "fetch-init.env" $fetch | nindent 4 }}
    {{- if .root.Values.tls.enabled }}
    - {name: CODE_SERVER_CA_CERT, value: /certificates/ca.crt}
    {{- end }}
    resources:
      requests: {cpu: 50m, memory: 32Mi, ephemeral-storage: 16Mi}
      limits: {cpu: 100m, memory: 64Mi, ephemeral-storage: 64Mi}
    {{- include "fetch-init.container" $fetch | nindent 4 }}
  volumes:
  {{- include "fetch-init.volumes" $fetch | nindent 2 }}
{{- end }}
