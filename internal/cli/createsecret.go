package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/seed-79636ae9/flux/internal/kind"
)

// secretKind is one `flux create secret` command.
type secretKind struct {
	word, short, long, example string
	// bind adds the flags and returns the function that reads them once they are parsed.
	bind func(*pflag.FlagSet) buildSecret
}

// buildSecret makes the content of a Secret. Errors name the flag to mend.
type buildSecret func(context.Context, secretInput) (*secretContent, error)

// secretInput is what the commands share.
type secretInput struct {
	Name, Namespace string
	UI              kind.UI
}

// secretContent is what differs from Secret to Secret. An empty type is Opaque.
type secretContent struct {
	Type        corev1.SecretType
	Annotations map[string]string
	Data        map[string]string
}

func secretKinds() []secretKind {
	return []secretKind{
		gitSecret(), githubAppSecret(), helmSecret(), notationSecret(), ociSecret(), proxySecret(), receiverSecret(), tlsSecret(),
	}
}

// newCreateSecret makes the commands that write the Secrets sources and receivers refer to (cli 31-33).
func newCreateSecret(o *createOptions) *cobra.Command {
	parent := group("secret", nil, "Create or update Kubernetes secrets")
	parent.Long = "The create source sub-commands generate Kubernetes secrets specific to Flux."
	for _, k := range secretKinds() {
		cmd := &cobra.Command{
			Use: k.word + nameArg, Short: k.short, Long: k.long, Example: k.example, Args: exactly("secret name"),
		}
		build := k.bind(cmd.Flags())
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			return o.bounded(cmd.Context(), func(ctx context.Context) error { return o.runSecret(ctx, k.word, build, args[0]) })
		}
		parent.AddCommand(cmd)
	}
	return parent
}

// runSecret makes a Secret and prints or applies it.
func (o *createOptions) runSecret(ctx context.Context, word string, build buildSecret, name string) error {
	if err := kind.ValidateName(name); err != nil {
		return &usageError{err}
	}
	labels, err := parseLabels(o.labels)
	if err != nil {
		return &usageError{err}
	}
	content, err := build(ctx, secretInput{Name: name, Namespace: o.Namespace(), UI: o.ui()})
	if err != nil {
		return o.buildError(err)
	}
	secret, err := toObject(&corev1.Secret{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: o.Namespace(), Labels: labels, Annotations: content.Annotations},
		Type:       content.Type, StringData: content.Data,
	})
	if err != nil {
		return err
	}
	if o.export {
		return printDocument(o.Streams.Out, secret.Object)
	}
	client, err := o.Ops()
	if err != nil {
		return err
	}
	if err := client.SaveSecret(ctx, secret); err != nil {
		return err
	}
	o.Successf("%s secret '%s' created in '%s' namespace", word, name, o.Namespace())
	return nil
}

// requireTogether fails when only one of two flags is given.
func requireTogether(first, a, second, b string) error {
	if (a == "") != (b == "") {
		return fmt.Errorf("--%s and --%s belong together", first, second)
	}
	return nil
}
