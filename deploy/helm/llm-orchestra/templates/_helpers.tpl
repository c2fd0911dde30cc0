{{- define "orchestra.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- /* The pods of one service: (list $ "gateway") */}}
{{- define "orchestra.selector" -}}
app.kubernetes.io/name: {{ (index . 0).Chart.Name }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "orchestra.labels" -}}
{{ include "orchestra.selector" . }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
helm.sh/chart: {{ (index . 0).Chart.Name }}-{{ (index . 0).Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "orchestra.metadata" -}}
{{- $root := index . 0 -}}
name: {{ include "orchestra.name" $root }}-{{ index . 1 }}
labels:
  {{- include "orchestra.labels" . | nindent 2 }}
{{- end }}

{{- /* An image and how it runs: (list $ "gateway" TAG), where an empty tag is that of all. */}}
{{- define "orchestra.image" -}}
{{- $root := index . 0 -}}
{{- $tag := coalesce (index . 2) $root.Values.images.tag $root.Chart.AppVersion -}}
image: {{ $root.Values.images.repository }}/{{ index . 1 }}:{{ $tag }}
imagePullPolicy: {{ $root.Values.images.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{- define "orchestra.pod" -}}
automountServiceAccountToken: false
# Names of Services would become variables, of which some look like settings.
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.images.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "orchestra.spread" -}}
topologySpreadConstraints:
  {{- range $key := list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - topologyKey: {{ $key }}
    maxSkew: 1
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "orchestra.selector" $ | nindent 8 }}
  {{- end }}
{{- end }}

{{- /* A map of settings as variables. */}}
{{- define "orchestra.settings" -}}
{{- range $name, $value := . }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}

{{- /* The variables for Postgres and Kafka: (list $ "workers") */}}
{{- define "orchestra.stores" -}}
{{- $root := index . 0 -}}
{{- $values := $root.Values -}}
- name: DATABASE_URL
  valueFrom:
    secretKeyRef:
      name: {{ required "postgres.secret is required: the Secret with the URL of Postgres" $values.postgres.secret }}
      key: {{ index $values.postgres.keys (index . 1) }}
{{- with $values.postgres.ca.secret }}
- name: PGSSLMODE
  value: verify-full
- name: PGSSLROOTCERT
  value: /etc/orchestra/postgres-ca/ca.crt
{{- end }}
{{- with $values.kafka }}
- name: KAFKA_BOOTSTRAP_SERVERS
  value: {{ required "kafka.bootstrapServers is required" .bootstrapServers }}
- name: KAFKA_SECURITY_PROTOCOL
  value: {{ .securityProtocol }}
{{- if hasPrefix "SASL" .securityProtocol }}
- name: KAFKA_SASL_MECHANISM
  value: {{ .sasl.mechanism }}
- name: KAFKA_SASL_USERNAME
  value: {{ required "kafka.sasl.username is required with this kafka.securityProtocol" .sasl.username | quote }}
- name: KAFKA_SASL_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ required "kafka.sasl.secret is required: the Secret with the password of kafka.sasl.username" .sasl.secret }}
      key: {{ .sasl.key }}
{{- end }}
{{- if .ca.secret }}
- name: KAFKA_SSL_CAFILE
  value: /etc/orchestra/kafka-ca/ca.crt
{{- end }}
{{- if .client.secret }}
- name: KAFKA_SSL_CERTFILE
  value: /etc/orchestra/kafka-client/user.crt
- name: KAFKA_SSL_KEYFILE
  value: /etc/orchestra/kafka-client/user.key
{{- end }}
{{- end }}
{{- end }}

{{- /* The variables that gateways and workers have beside those. */}}
{{- define "orchestra.pipeline" -}}
- name: ORCHESTRA_SECRET
  valueFrom:
    secretKeyRef: {name: {{ include "orchestra.secret" . }}, key: ORCHESTRA_SECRET}
- name: ORCHESTRA_SECRET_OLD
  valueFrom:
    secretKeyRef: {name: {{ include "orchestra.secret" . }}, key: ORCHESTRA_SECRET_OLD, optional: true}
{{- with .Values.files }}
{{- if .url }}
- name: FILES_URL
  value: {{ .url }}
- name: AWS_REGION
  value: {{ .region }}
{{- with .endpoint }}
- name: AWS_ENDPOINT_URL
  value: {{ . }}
{{- end }}
{{- if .secret }}
- name: AWS_ACCESS_KEY_ID
  valueFrom:
    secretKeyRef: {name: {{ .secret }}, key: AWS_ACCESS_KEY_ID}
- name: AWS_SECRET_ACCESS_KEY
  valueFrom:
    secretKeyRef: {name: {{ .secret }}, key: AWS_SECRET_ACCESS_KEY}
{{- end }}
{{- end }}
{{- end }}
{{- if .Values.agents }}
- name: AGENTS_DIR
  value: /etc/orchestra/agents
{{- end }}
{{- end }}

{{- define "orchestra.secret" -}}
{{ required "secret is required: the Secret with ORCHESTRA_SECRET and LLM_SERVICE_TOKEN" .Values.secret }}
{{- end }}

{{- define "orchestra.token" -}}
- name: LLM_SERVICE_TOKEN
  valueFrom:
    secretKeyRef: {name: {{ include "orchestra.secret" . }}, key: LLM_SERVICE_TOKEN}
{{- end }}

{{- define "orchestra.tmp.mount" -}}
- {name: tmp, mountPath: /tmp}
{{- end }}

{{- define "orchestra.tmp.volume" -}}
- name: tmp
  emptyDir: {}
{{- end }}

{{- define "orchestra.stores.mounts" -}}
{{- with .Values }}
{{- if .postgres.ca.secret }}
- {name: postgres-ca, mountPath: /etc/orchestra/postgres-ca, readOnly: true}
{{- end }}
{{- if .kafka.ca.secret }}
- {name: kafka-ca, mountPath: /etc/orchestra/kafka-ca, readOnly: true}
{{- end }}
{{- if .kafka.client.secret }}
- {name: kafka-client, mountPath: /etc/orchestra/kafka-client, readOnly: true}
{{- end }}
{{- end }}
{{- end }}

{{- define "orchestra.stores.volumes" -}}
{{- with .Values.postgres.ca }}
{{- if .secret }}
- name: postgres-ca
  secret:
    secretName: {{ .secret }}
    items: [{key: {{ .key }}, path: ca.crt}]
{{- end }}
{{- end }}
{{- with .Values.kafka.ca }}
{{- if .secret }}
- name: kafka-ca
  secret:
    secretName: {{ .secret }}
    items: [{key: {{ .key }}, path: ca.crt}]
{{- end }}
{{- end }}
{{- with .Values.kafka.client }}
{{- if .secret }}
- name: kafka-client
  secret:
    secretName: {{ .secret }}
    items: [{key: {{ .certificateKey }}, path: user.crt}, {key: {{ .keyKey }}, path: user.key}]
{{- end }}
{{- end }}
{{- end }}

{{- define "orchestra.agents.mount" -}}
{{- if .Values.agents }}
- {name: agents, mountPath: /etc/orchestra/agents, readOnly: true}
{{- end }}
{{- end }}

{{- define "orchestra.agents.volume" -}}
{{- if .Values.agents }}
- name: agents
  configMap:
    name: {{ include "orchestra.name" . }}-agents
{{- end }}
{{- end }}

{{- define "orchestra.prometheus" -}}
{{ required "workers.autoscaling.prometheus is required: the URL of Prometheus" .Values.workers.autoscaling.prometheus }}
{{- end }}

{{/* Nothing, or why these bounds cannot be: list NAME AUTOSCALING. */}}
{{- define "orchestra.autoscaling.check" }}
{{- $bounds := index . 1 }}
{{- if gt (int $bounds.minReplicas) (int $bounds.maxReplicas) }}
{{- fail (printf "%s.autoscaling.minReplicas is above maxReplicas" (index . 0)) }}
{{- end }}
{{- end }}
