package provider

func sentry() Type { return notBuilt("sentry") }

func opsgenie() Type { return notBuilt("opsgenie") }

func alertmanager() Type { return notBuilt("alertmanager") }

func grafana() Type { return notBuilt("grafana") }

func pagerDuty() Type { return notBuilt("pagerduty") }

func datadog() Type { return notBuilt("datadog") }
