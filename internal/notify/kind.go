// Package notify tells services of events, as Alerts say, through Providers, and lets services ask for a reconciliation, through
// Receivers.
package notify

import (
	notificationv1 "github.com/seed-79636ae9/flux/api/notification/v1"
	notificationv1beta3 "github.com/seed-79636ae9/flux/api/notification/v1beta3"
	"github.com/seed-79636ae9/flux/internal/kind"
)

// ReceiverKind describes Receiver to the generic verbs.
func ReceiverKind() kind.Kind {
	return kind.Kind{
		GroupVersionKind: notificationv1.GroupVersion.WithKind(notificationv1.ReceiverKind), Resource: "receivers",
		Words: []string{"receiver"}, ListWords: []string{"receivers"}, ListAliases: []string{"receiver"},
		Verbs: kind.AllVerbs,
		Columns: []kind.Column{
			kind.SuspendedColumn(), kind.WideField("TYPE", "spec", "type"), kind.WideField("WEBHOOK PATH", "status", "webhookPath"),
		},
		Secrets: kind.SecretRefs("secretRef"),
		Done:    func(o kind.Object) string { return "generated webhook URL " + o.Field("status", "webhookPath") },
		Create: &kind.Create{
			Short: "Create or update a Receiver resource",
			Long:  "The create receiver command generates a Receiver resource and waits until its webhook can be called.",
			Example: `  # Make a token, then let pushes on GitHub reconcile a source at once
  flux create secret receiver github-webhook \
    --type=github \
    --hostname=flux.example.com
  flux create receiver github-webhook \
    --type=github \
    --event=ping,push \
    --secret-ref=github-webhook \
    --resource=GitRepository/webapp,HelmRepository/webapp.charts

  # Print it instead, to keep it in Git
  flux create receiver registry \
    --type=harbor \
    --secret-ref=registry-webhook \
    --resource=ImageRepository/webapp \
    --export > receiver.yaml`,
			Bind: bindReceiver,
			Done: func(o kind.Object) string { return "Receiver " + o.GetName() + " is ready" },
		},
	}
}

// ProviderKind describes Provider to the generic verbs, which call it alert-provider.
func ProviderKind() kind.Kind {
	return kind.Kind{
		GroupVersionKind: notificationv1beta3.GroupVersion.WithKind(notificationv1beta3.ProviderKind), Resource: "providers",
		Words: []string{"alert-provider"}, ListWords: []string{"alert-providers"}, ListAliases: []string{"alert-provider"},
		Verbs:   kind.Suspend | kind.Delete | kind.Export,
		Columns: []kind.Column{kind.WideField("TYPE", "spec", "type")},
		Static:  kind.Always, StaticMessage: "Provider is Ready",
		Secrets: kind.SecretRefs("secretRef", "certSecretRef", "proxySecretRef"),
		Create: &kind.Create{
			Short: "Create or update a Provider resource",
			Long:  "The create alert-provider command generates a Provider resource: a service that alerts tell of events.",
			Example: `  # Post to a channel of Slack, with the token of a bot in an existing Secret
  flux create alert-provider slack \
    --type=slack \
    --channel=deployments \
    --address=https://slack.com/api/chat.postMessage \
    --secret-ref=slack-token

  # Show on GitHub which commits were applied
  flux create alert-provider github-webapp \
    --type=github \
    --address=https://github.com/example/webapp \
    --secret-ref=github-token`,
			Bind: bindProvider,
			Done: func(o kind.Object) string { return "Provider " + o.GetName() + " is ready" },
		},
	}
}

// AlertKind describes Alert to the generic verbs.
func AlertKind() kind.Kind {
	return kind.Kind{
		GroupVersionKind: notificationv1beta3.GroupVersion.WithKind(notificationv1beta3.AlertKind), Resource: "alerts",
		Words: []string{"alert"}, ListWords: []string{"alerts"}, ListAliases: []string{"alert"},
		Verbs:   kind.Suspend | kind.Delete | kind.Export,
		Columns: []kind.Column{kind.SuspendedColumn(), kind.WideField("PROVIDER", "spec", "providerRef", "name")},
		Static:  kind.Always, StaticMessage: "Alert is Ready",
		Related: func(o kind.Object) []kind.Ref {
			if name := o.Field("spec", "providerRef", "name"); name != "" {
				return []kind.Ref{{Kind: notificationv1beta3.ProviderKind, Namespace: o.GetNamespace(), Name: name}}
			}
			return nil
		},
		Create: &kind.Create{
			Short: "Create or update an Alert resource",
			Long:  "The create alert command generates an Alert resource: which events of which objects go to which provider.",
			Example: `  # Tell of all events of one Kustomization
  flux create alert webapp \
    --event-severity=info \
    --event-source=Kustomization/webapp \
    --provider-ref=slack

  # Tell of the failures of all Kustomizations here, and of all HelmReleases of another namespace
  flux create alert failures \
    --event-severity=error \
    --event-source="Kustomization/*,HelmRelease/*.apps" \
    --provider-ref=slack`,
			Bind: bindAlert,
			Done: func(o kind.Object) string { return "Alert " + o.GetName() + " is ready" },
		},
	}
}
