{{- define "baimo.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "baimo.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "baimo.labels" -}}
{{ include "baimo.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | quote }}
{{- end -}}

{{- define "baimo.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{- define "baimo.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "baimo.name" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{- /* several writers on one SQLite file on a network volume lose data: refuse what cannot work */ -}}
{{- define "baimo.checked" -}}
{{- if and (not .Values.database.existingSecret) (or (gt (int .Values.replicas) 1) .Values.autoscaling.enabled) -}}
{{- fail "several replicas need PostgreSQL: set database.existingSecret" -}}
{{- end -}}
{{- if and (not .Values.database.existingSecret) (not .Values.persistence.enabled) -}}
{{- fail "the ledger must outlive the pod: set persistence.enabled or database.existingSecret" -}}
{{- end -}}
{{- end -}}
