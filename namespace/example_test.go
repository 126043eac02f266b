package namespace_test

import (
	"fmt"

	"github.com/managedkeys/managedkeys/namespace"
)

func Example() {
	ref, err := namespace.ParseRef("team-a/payments/issuing-ca")
	fmt.Println(ref.Namespace, ref.Name, err)

	team := namespace.Path("team-a")
	fmt.Println(team.Contains(ref.Namespace), team.Contains("team-b"))
	// Output:
	// team-a/payments issuing-ca <nil>
	// true false
}

func ExampleParsePath() {
	_, err := namespace.ParsePath("team-a/Payments")
	fmt.Println(err)
	// Output: namespace: invalid name: path segment "Payments" has "P" at byte 0; a-z, 0-9, '-', '_' and '.' are allowed
}
