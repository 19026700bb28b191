{{- /* The first status of a pod: what its images say happens to its containers, told all at once. */ -}}
{{- $now := Now -}}
{{- $policy := .spec.restartPolicy -}}
{{- $initFails := false -}}
{{- $initNever := false -}}
{{- range .spec.initContainers -}}
  {{- if contains "never" .image }}{{ $initNever = true }}{{ else if contains "fails" .image }}{{ $initFails = true }}{{ end -}}
{{- end -}}
{{- $blocked := or $initFails $initNever -}}
{{- $running := 0 -}}
{{- $waiting := 0 -}}
{{- $crashed := 0 -}}
{{- range .spec.containers -}}
  {{- if contains "never" .image }}{{ $waiting = add1 $waiting }}{{ else if contains "fails" .image }}{{ $crashed = add1 $crashed }}{{ else }}{{ $running = add1 $running }}{{ end -}}
{{- end -}}
{{- $phase := "Running" -}}
{{- if $blocked -}}
  {{- $phase = ternary "Failed" "Pending" (and (not $initNever) (eq $policy "Never")) -}}
{{- else if $waiting -}}
  {{- $phase = "Pending" -}}
{{- else if and (eq $policy "Never") (not $running) -}}
  {{- $phase = "Failed" -}}
{{- end -}}
{{- $ready := and (not $blocked) (not $waiting) (not $crashed) -}}
phase: {{ $phase }}
startTime: {{ $now | Quote }}
conditions:
- type: PodReadyToStartContainers
  status: "True"
  lastTransitionTime: {{ $now | Quote }}
- type: Initialized
  status: {{ ternary "False" "True" $blocked | Quote }}
  reason: {{ ternary "ContainersNotInitialized" "" $blocked | Quote }}
  lastTransitionTime: {{ $now | Quote }}
{{- range list "ContainersReady" "Ready" }}
- type: {{ . }}
  status: {{ ternary "True" "False" $ready | Quote }}
  reason: {{ ternary "" "ContainersNotReady" $ready | Quote }}
  message: {{ ternary "" "simulated: an image name asks for it" $ready | Quote }}
  lastTransitionTime: {{ $now | Quote }}
{{- end }}
{{- range .spec.readinessGates }}
- type: {{ .conditionType | Quote }}
  status: "True"
  lastTransitionTime: {{ $now | Quote }}
{{- end }}
{{- if .spec.initContainers }}
initContainerStatuses:
{{- end }}
{{- range .spec.initContainers }}
- name: {{ .name | Quote }}
  image: {{ .image | Quote }}
  {{- if contains "never" .image }}
  ready: false
  restartCount: 0
  state: {waiting: {reason: ImagePullBackOff, message: {{ printf "simulated: image %s is never pulled" .image | Quote }}}}
  {{- else if contains "fails" .image }}
  ready: false
  {{- if eq $policy "Never" }}
  restartCount: 0
  state: {terminated: {exitCode: 1, reason: Error, startedAt: {{ $now | Quote }}, finishedAt: {{ $now | Quote }}}}
  {{- else }}
  restartCount: 1
  state: {waiting: {reason: CrashLoopBackOff, message: {{ printf "simulated: container %s fails" .name | Quote }}}}
  lastState: {terminated: {exitCode: 1, reason: Error, startedAt: {{ $now | Quote }}, finishedAt: {{ $now | Quote }}}}
  {{- end }}
  {{- else if eq (default "" .restartPolicy) "Always" }}
  ready: true
  started: true
  restartCount: 0
  state: {running: {startedAt: {{ $now | Quote }}}}
  {{- else }}
  ready: true
  restartCount: 0
  state: {terminated: {exitCode: 0, reason: Completed, startedAt: {{ $now | Quote }}, finishedAt: {{ $now | Quote }}}}
  {{- end }}
{{- end }}
containerStatuses:
{{- range .spec.containers }}
- name: {{ .name | Quote }}
  image: {{ .image | Quote }}
  {{- if $blocked }}
  ready: false
  started: false
  restartCount: 0
  state: {waiting: {reason: PodInitializing}}
  {{- else if contains "never" .image }}
  ready: false
  started: false
  restartCount: 0
  state: {waiting: {reason: ImagePullBackOff, message: {{ printf "simulated: image %s is never pulled" .image | Quote }}}}
  {{- else if contains "fails" .image }}
  ready: false
  started: false
  {{- if eq $policy "Never" }}
  restartCount: 0
  state: {terminated: {exitCode: 1, reason: Error, startedAt: {{ $now | Quote }}, finishedAt: {{ $now | Quote }}}}
  {{- else }}
  restartCount: 1
  state: {waiting: {reason: CrashLoopBackOff, message: {{ printf "simulated: container %s fails" .name | Quote }}}}
  lastState: {terminated: {exitCode: 1, reason: Error, startedAt: {{ $now | Quote }}, finishedAt: {{ $now | Quote }}}}
  {{- end }}
  {{- else }}
  ready: true
  started: true
  restartCount: 0
  state: {running: {startedAt: {{ $now | Quote }}}}
  {{- end }}
{{- end }}
{{- with NodeIPsWith .spec.nodeName }}
hostIP: {{ index . 0 | Quote }}
hostIPs:
{{- range . }}
- ip: {{ . | Quote }}
{{- end }}
{{- end }}
{{- with PodIPsWith .spec.nodeName (or .spec.hostNetwork false) (or .metadata.uid "") (or .metadata.name "") (or .metadata.namespace "") }}
podIP: {{ index . 0 | Quote }}
podIPs:
{{- range . }}
- ip: {{ . | Quote }}
{{- end }}
{{- end }}
