package receiver

import (
	"context"
	"net/http"

	"github.com/go-logr/logr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/seed-79636ae9/flux/internal/component"
)

type Options struct {
	Manager              ctrl.Manager
	Client               client.Client
	Reader               client.Reader
	NoCrossNamespaceRefs bool
	Log                  logr.Logger
}
type Server struct{}

func New(Options) *Server                                        { return &Server{} }
func (*Server) Setup(context.Context, *component.Host) error     { return nil }
func (*Server) ServeHTTP(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }
