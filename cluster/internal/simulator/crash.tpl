{{- /* One more restart of every container that crashes. Status lists are replaced as a whole, so the others are repeated as they are. */ -}}
{{- $now := Now -}}
{{- $again := dict "lastState" (dict "terminated" (dict "exitCode" 1 "reason" "Error" "startedAt" $now "finishedAt" $now)) -}}
{{- range $list := list "initContainerStatuses" "containerStatuses" }}
{{- $statuses := get $.status $list }}
{{- if $statuses }}
{{ $list }}:
{{- range $statuses }}
{{- $crashed := false }}
{{- if .state.waiting }}{{ $crashed = eq (default "" .state.waiting.reason) "CrashLoopBackOff" }}{{ end }}
{{- if $crashed }}
- {{ merge (dict "restartCount" (add1 .restartCount)) $again (omit . "restartCount" "lastState") | toJson }}
{{- else }}
- {{ toJson . }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
