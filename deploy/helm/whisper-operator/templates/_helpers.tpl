{{- /* Where the images are. */ -}}
{{- define "whisper-operator.repository" -}}
{{- required "image.repository is not set: give the repository that `make images` pushed to, --set image.repository=REGISTRY/PATH" .Values.image.repository -}}
{{- end }}

{{- /* The operator's image. */ -}}
{{- define "whisper-operator.image" -}}
{{- printf "%s:%s-operator" (include "whisper-operator.repository" .) (.Values.image.version | default .Chart.AppVersion) -}}
{{- end }}

{{- /* The operator's configuration file. */ -}}
{{- define "whisper-operator.config" -}}
{{- $repository := .Values.server.repository | default (include "whisper-operator.repository" .) -}}
{{- $version := required "server.version is not set: give the version of the server's images, --set server.version=VERSION; an upgrade of the chart leaves it, and with it the endpoints' pods, as it is" .Values.server.version -}}
{{- $config := dict "server" (dict "repository" $repository "version" $version) "autopilot" .Values.autopilot -}}
{{- with .Values.namespaces }}{{- $_ := set $config "namespaces" . }}{{- end -}}
{{- merge $config .Values.config | toYaml -}}
{{- end }}
