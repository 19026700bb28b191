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
	}
}
