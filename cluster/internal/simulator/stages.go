package simulator

import (
	_ "embed"
	"fmt"

	"k8s.io/utils/ptr"
	"sigs.k8s.io/kwok/kustomize/stage/node/fast"
	"sigs.k8s.io/kwok/pkg/apis/internalversion"
	"sigs.k8s.io/kwok/pkg/apis/v1alpha1"
	"sigs.k8s.io/yaml"
)

//go:embed start.tpl
var startTemplate string

//go:embed crash.tpl
var crashTemplate string

//go:embed complete.tpl
var completeTemplate string

const (
	defaultRunMilliseconds = 1000
	podAlive               = `select(.metadata.deletionTimestamp == null)`
	// crashPause is the kubelet's back-off with a shorter first pause: 2 s, doubled with each restart, at most 5 minutes.
	crashPause = `[.status.containerStatuses[]?, .status.initContainerStatuses[]? | .restartCount] | max | [pow(2; .), 300] | min | tostring + "s"`
)

// localStages returns the life of nodes and pods as kwok plays it: the first stage whose selector matches comes next.
func localStages() (map[internalversion.StageResourceRef][]*internalversion.Stage, error) {
	var published v1alpha1.Stage
	if err := yaml.UnmarshalStrict([]byte(fast.DefaultNodeInit), &published); err != nil {
		return nil, fmt.Errorf("read kwok's node stage: %w", err)
	}
	node, err := internalversion.ConvertToInternalStage(&published)
	if err != nil {
		return nil, fmt.Errorf("read kwok's node stage: %w", err)
	}
	return map[internalversion.StageResourceRef][]*internalversion.Stage{
		{APIGroup: "v1", Kind: "Node"}: {node},
		{APIGroup: "v1", Kind: "Pod"}: {
			podStage("start", `.status.phase == "Pending" and .status.startTime == null`,
				&internalversion.StageDelay{DurationFrom: annotation(ReadyAfter)}, startTemplate),
			podStage("crash-again", `[.status.containerStatuses[]?, .status.initContainerStatuses[]? | .state.waiting.reason] | any(. == "CrashLoopBackOff")`,
				&internalversion.StageDelay{DurationFrom: jq(crashPause)}, crashTemplate),
			podStage("complete", `.status.phase == "Running" and .spec.restartPolicy != "Always" and ([.status.containerStatuses[]? | .state.waiting] | all(. == null))`,
				&internalversion.StageDelay{DurationMilliseconds: ptr.To[int64](defaultRunMilliseconds), DurationFrom: annotation(CompleteAfter)}, completeTemplate),
			deleteStage(),
		},
	}, nil
}

func podStage(name, condition string, delay *internalversion.StageDelay, template string) *internalversion.Stage {
	stage := newStage(name, podAlive+` | select(`+condition+`) | .metadata.name`)
	stage.Spec.Delay = delay
	stage.Spec.Steps = []internalversion.StageStep{{Patch: &internalversion.StagePatch{
		Subresource: "status",
		Root:        "status",
		Template:    template,
		Type:        ptr.To(internalversion.StagePatchTypeStrategicMergePatch),
	}}}
	return stage
}

func deleteStage() *internalversion.Stage {
	stage := newStage("delete", `.metadata.deletionTimestamp`)
	stage.Spec.Steps = []internalversion.StageStep{{Delete: true}}
	return stage
}

// newStage makes a stage that comes when the jq expression yields something.
func newStage(name, when string) *internalversion.Stage {
	stage := &internalversion.Stage{}
	stage.Name = name
	stage.Spec.ResourceRef = internalversion.StageResourceRef{APIGroup: "v1", Kind: "Pod"}
	stage.Spec.Selector = &internalversion.StageSelector{MatchExpressions: []internalversion.MatchExpression{{
		JQ: &internalversion.SelectorJQ{Key: when, Operator: internalversion.SelectorOpExists},
	}}}
	return stage
}

func annotation(key string) *internalversion.ExpressionFrom {
	return jq(`.metadata.annotations["` + key + `"]`)
}

func jq(expression string) *internalversion.ExpressionFrom {
	return &internalversion.ExpressionFrom{JQ: &internalversion.ExpressionJQ{Expression: expression}}
}
