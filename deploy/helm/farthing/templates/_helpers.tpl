{{- define "farthing.selector" -}}
app.kubernetes.io/name: farthing
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "farthing.labels" -}}
{{ include "farthing.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: farthing-{{ .Chart.Version }}
{{- end }}

{{- /* The most gateways there can be: what shared.replicas must say, or each would count budgets for itself. */}}
{{- define "farthing.replicas" -}}
{{- if .Values.autoscaling.enabled }}{{ .Values.autoscaling.maxReplicas }}{{ else }}{{ .Values.replicas }}{{ end }}
{{- end }}

{{- define "farthing.toml" -}}
[server]
host = "0.0.0.0"
port = 8787
admin_token = "env:FARTHING_ADMIN_TOKEN"

[ledger]
path = "/var/lib/farthing"

[key_store]
pepper = "env:FARTHING_PEPPER"

[shared]
replicas = {{ include "farthing.replicas" . }}
postgres = {{ .Values.shared.postgres | quote }}
redis = {{ .Values.shared.redis | quote }}

{{ .Values.config }}
{{- end }}
