// Package reach sees what other machines reach of a server: before anybody has exposed it, and after. The other machine
// is a network namespace. It runs the commands of docs/security.md as they are printed.
package reach
