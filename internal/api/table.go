package api

import (
	"slices"
	"strings"

	"github.com/firthmq/firth/internal/access/rule"
)

// routes is the table.
func routes() []route {
	return slices.Concat(aboutRoutes(), topicRoutes(), recordRoutes(), sessionRoutes(), recipientRoutes(), groupRoutes(),
		userRoutes(), ruleRoutes(), banRoutes(), tokenRoutes(), certificateRoutes(), quotaRoutes(), auditRoutes(),
		auditVerifyRoutes(), messageRoutes(), retainedRoutes(), topicChangeRoutes(), groupChangeRoutes(), hourRoutes())
}

// Line is what one route asks of who asks, for the matrix of access.
type Line struct {
	Method, Path string         // with Path before it, and {name} for what is named
	Open         bool           // everybody is answered
	Operation    rule.Operation // that it asks for
	On           rule.Kind      // on what kind of resource
	By           string         // the parameter of the path that names it; "": the cluster, or with Each every one
	Flows        bool           // it answers with events until one of both ends it
	Each         bool           // a list, of which what may not be seen is left out
}

// Lines are the lines of the table.
func Lines() (lines []Line) {
	for _, r := range routes() {
		lines = append(lines, Line{Method: r.method, Path: Path + r.path, Open: r.open, Operation: r.right.operation,
			On: r.right.on, By: r.right.by, Each: r.right.each, Flows: r.flow != nil})
	}
	return lines
}

// rights says in words what who asks has to have.
func (rt *route) rights() string {
	r := &rt.right
	switch kind := strings.ReplaceAll(r.on.String(), "_", " "); {
	case rt.open:
		return "Everybody is answered."
	case r.each:
		return "Who is known is answered; left out is what it has no right to " + r.operation.String() + " (" + kind + ")."
	case r.by == "":
		return "It takes the right to " + r.operation.String() + " the cluster."
	case r.of == ofName:
		return "It takes the right to " + r.operation.String() + " the topic name."
	case r.of == ofFilter:
		return "It takes the right to subscribe to the filter; each message takes the right to read its topic name besides."
	case r.orCluster:
		return "It takes the right to " + r.operation.String() + " the " + kind + ", or the cluster."
	default:
		return "It takes the right to " + r.operation.String() + " the " + kind + "."
	}
}
