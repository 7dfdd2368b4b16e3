{{/* What keeps the pods of the application apart. */}}
{{- define "code-server.antiAffinity" -}}
{{- $selector := printf "labelSelector: {matchLabels: {app.kubernetes.io/name: %s}}" .Values.application.name -}}
{{- if eq .Values.affinity "hard" -}}
requiredDuringSchedulingIgnoredDuringExecution:
- topologyKey: kubernetes.io/hostname
  {{ $selector }}
{{- else -}}
preferredDuringSchedulingIgnoredDuringExecution:
{{- if eq .Values.affinity "zone" }}
- weight: 100
  podAffinityTerm:
    topologyKey: topology.kubernetes.io/zone
    {{ $selector }}
{{- end }}
- weight: {{ eq .Values.affinity "zone" | ternary 50 100 }}
  podAffinityTerm:
    topologyKey: kubernetes.io/hostname
    {{ $selector }}
{{- end -}}
{{- end }}
