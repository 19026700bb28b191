package provider_test

import (
	"crypto/sha1"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/seed-79636ae9/flux/internal/notify/provider"
	"github.com/seed-79636ae9/flux/internal/notify/provider/providertest"
)

// provider 29, 39, 49
func TestMatrix(t *testing.T) {
	providertest.Suite{
		Type: "matrix",
		Config: func(base string) provider.Config {
			return provider.Config{Address: base, Channel: "!room:example.com", Token: providertest.Canary}
		},
	}.Run(t)
}

// provider 29: the id of a message is that of its event, so that no repetition is shown twice.
func TestMatrixAddress(t *testing.T) {
	wire := wire{answer: "{}"}
	address := func(base, room string, at metav1.Time) string {
		event := providertest.Applied()
		event.Timestamp = at
		request, err := wire.tell(t, "matrix", provider.Config{Address: base, Channel: room, Token: "t1"}, event)
		if err != nil {
			t.Fatal(err)
		}
		return request.URL.String()
	}
	then := providertest.Applied().Timestamp
	later := metav1.NewTime(then.Add(time.Second))
	data, err := json.Marshal(providertest.Applied())
	if err != nil {
		t.Fatal(err)
	}
	id := fmt.Sprintf("%x", sha1.Sum(data))
	for _, c := range []struct{ base, room, want string }{
		{"https://matrix.example", "!room:example.com", "https://matrix.example/_matrix/client/r0/rooms/!room:example.com/send/m.room.message/"},
		{"https://example.com/matrix/", "!a/b?c:example.com",
			"https://example.com/matrix/_matrix/client/r0/rooms/!a%2Fb%3Fc:example.com/send/m.room.message/"},
	} {
		if got := address(c.base, c.room, then); got != c.want+id {
			t.Errorf("the message goes to\n%s, want\n%s", got, c.want+id)
		}
	}
	if a, b := address("https://matrix.example", "!r:e", then), address("https://matrix.example", "!r:e", later); a == b {
		t.Error("two events have one id")
	}
}
