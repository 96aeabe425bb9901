package node

import (
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// The functions below say what a piece of YAML is. All scalars are read by their text, whatever YAML
// takes them for: 1883, off and 7d mean what the option says.

// scalar is the text of a scalar; false for anything else and for no value.
func scalar(n ast.Node) (string, bool) {
	switch v := n.(type) {
	case *ast.StringNode:
		return v.Value, true
	case *ast.LiteralNode:
		return strings.TrimSuffix(v.Value.Value, "\n"), true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return v.GetToken().Value, true
	}
	return "", false
}

func isNothing(n ast.Node) bool {
	_, null := n.(*ast.NullNode)
	return null
}

// oddity names what YAML has and a configuration does not, or "".
func oddity(n ast.Node) string {
	switch n.(type) {
	case *ast.AnchorNode, *ast.AliasNode:
		return "anchors and aliases are not supported"
	case *ast.TagNode:
		return "tags (!) are not supported"
	}
	return ""
}

// kindOf names what was found, for a message.
func kindOf(n ast.Node) string {
	switch n.(type) {
	case *ast.SequenceNode:
		return "a list"
	case ast.MapNode:
		return "keys"
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "a number"
	case *ast.BoolNode:
		return "true or false"
	case *ast.NullNode:
		return "nothing"
	case *ast.StringNode, *ast.LiteralNode:
		return "text"
	}
	return "something else"
}
