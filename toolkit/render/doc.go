// Package render turns an unpacked artifact into the list of objects to apply: kustomize build, decryption hooks,
// variable substitution, and the digest that names the result.
//
// The tree is never written to. Kustomize reads it through a file system that adds the generated files in memory,
// refuses every path outside of the tree, and bounds what one build may read. Kustomize keeps its OpenAPI schema in
// package globals, so the builds of a process take turns.
package render
