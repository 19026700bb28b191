{{- /* Every container that still runs ends well; the pod has failed if one did not. */ -}}
{{- $now := Now -}}
{{- $phase := "Succeeded" -}}
containerStatuses:
{{- range .status.containerStatuses }}
{{- if .state.running }}
- {{ merge (dict "ready" false "started" false "state" (dict "terminated" (dict "exitCode" 0 "reason" "Completed" "startedAt" .state.running.startedAt "finishedAt" $now))) (omit . "ready" "started" "state") | toJson }}
{{- else }}
{{- $phase = "Failed" }}
- {{ toJson . }}
{{- end }}
{{- end }}
conditions:
{{- range list "ContainersReady" "Ready" }}
- type: {{ . }}
  status: "False"
  reason: {{ ternary "PodCompleted" "PodFailed" (eq $phase "Succeeded") }}
  message: ""
  lastTransitionTime: {{ $now | Quote }}
{{- end }}
phase: {{ $phase }}
