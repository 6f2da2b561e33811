{{- define "helmr.labels" -}}
app.kubernetes.io/name: helmr
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* Of one component: (list . "control") */}}
{{- define "helmr.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: helmr
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "helmr.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "helmr.secret" -}}
{{ required "existingSecret: name of a Secret with the keys and the database's URL (values.yaml lists them)" .Values.existingSecret }}
{{- end }}

{{- define "helmr.objectStoreEnv" -}}
- name: HELMR_CAS_URI
  value: {{ required "objectStore.uri: s3://bucket/prefix" .Values.objectStore.uri | quote }}
- name: AWS_REGION
  value: {{ .Values.objectStore.region | quote }}
{{- with .Values.objectStore.endpoint }}
- name: HELMR_S3_ENDPOINT
  value: {{ . | quote }}
{{- end }}
{{- if .Values.objectStore.forcePathStyle }}
- name: HELMR_S3_FORCE_PATH_STYLE
  value: "true"
{{- end }}
{{- end }}

{{- define "helmr.env" -}}
{{- range $name, $value := . }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}

{{- define "helmr.unprivileged" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: 1000
runAsGroup: 1000
capabilities: { drop: [ALL] }
seccompProfile: { type: RuntimeDefault }
{{- end }}
