{{- define "firth.selector" -}}
app.kubernetes.io/name: firth
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "firth.labels" -}}
{{ include "firth.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "firth.ports" -}}
{{- if .Values.tls.secret -}}
- { name: mqtts, port: 8883 }
- { name: wss, port: 8084 }
{{- if not .Values.kafka.brokers }}
- { name: kafkas, port: 9093 }
{{- end }}
- { name: https, port: 8443 }
{{- else -}}
- { name: mqtt, port: 1883 }
- { name: ws, port: 8083 }
{{- if not .Values.kafka.brokers }}
- { name: kafka, port: 9092 }
{{- end }}
- { name: http, port: 8080 }
{{- end }}
{{- end }}

{{- define "firth.listen" -}}
{{- if .Values.tls.secret -}}
listen: { mqtt: "off", ws: "off", kafka: "off", http: "localhost:8080", mqtts: ":8883", wss: ":8084", kafkas: {{ if .Values.kafka.brokers }}"off"{{ else }}":9093"{{ end }}, https: ":8443" }
tls: { certificate: /etc/firth/tls/tls.crt, key: /etc/firth/tls/tls.key, client_ca: {{ printf "/etc/firth/tls/%s" .Values.tls.clientCA }}, client_auth: require }
{{- else -}}
listen: { mqtt: ":1883", ws: ":8083", kafka: {{ if .Values.kafka.brokers }}"off"{{ else }}":9092"{{ end }}, http: ":8080" }
allow_remote_without_auth: true
{{- if not .Values.kafka.brokers }}
advertise: {{ printf "%s.%s.svc:9092" .Release.Name .Release.Namespace }}
{{- end }}
{{- end }}
{{- if .Values.kafka.brokers }}
log: { kafka: { brokers: {{ toJson .Values.kafka.brokers }}, gateways: {{ .Values.kafka.gateways }} } }
{{- end }}
{{- end }}

{{- /* The pod of either kind. */ -}}
{{- define "firth.pod" -}}
metadata:
  labels:
    {{- include "firth.labels" . | nindent 4 }}
  annotations:
    checksum/config: {{ include "firth.yaml" . | sha256sum }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: 60
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile: { type: RuntimeDefault }
  {{- with .Values.image.pullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: firth
      image: "{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args: [serve, --config, /etc/firth/config/firth.yaml]
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: { drop: [ALL] }
      env:
        - name: FIRTH_DATA
          value: /var/lib/firth
        {{- if .Values.kafka.brokers }}
        - name: POD_IP
          valueFrom: { fieldRef: { fieldPath: status.podIP } }
        - name: FIRTH_LOG_KAFKA_PEERS_LISTEN
          value: $(POD_IP):7883
        {{- end }}
      ports:
        {{- range include "firth.ports" . | fromYamlArray }}
        - { name: {{ .name }}, containerPort: {{ .port }} }
        {{- end }}
      # To recover after a crash may take a while; a full disk is not mended by a restart, so that liveness asks less.
      startupProbe:
        exec: { command: [/usr/bin/firth, health] }
        periodSeconds: 5
        timeoutSeconds: 10
        failureThreshold: 120
      livenessProbe:
        exec: { command: [/usr/bin/firth, health] }
        periodSeconds: 20
        timeoutSeconds: 15
        failureThreshold: 3
      readinessProbe:
        exec: { command: [/usr/bin/firth, health, --ready] }
        periodSeconds: 10
        timeoutSeconds: 10
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      volumeMounts:
        - { name: data, mountPath: /var/lib/firth }
        - { name: config, mountPath: /etc/firth/config, readOnly: true }
        {{- if .Values.tls.secret }}
        - { name: tls, mountPath: /etc/firth/tls, readOnly: true }
        {{- end }}
  volumes:
    - name: config
      configMap: { name: {{ .Release.Name }} }
    {{- if .Values.tls.secret }}
    - name: tls
      secret: { secretName: {{ .Values.tls.secret }}, defaultMode: 0440 }
    {{- end }}
    {{- if .Values.kafka.brokers }}
    - name: data
      emptyDir: {}
    {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{- define "firth.yaml" -}}
{{- if not (or .Values.tls.secret .Values.closedNetwork) }}
{{- fail "name a Secret with a certificate (tls.secret), or say that nobody else is in the network (closedNetwork: true)" }}
{{- end }}
{{- include "firth.listen" . }}
{{- with .Values.config }}
{{ toYaml . }}
{{- end }}
{{- end }}
