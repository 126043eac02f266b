package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/managedkeys/managedkeys/internal/nearest"
)

// takes says what is taken in the place of got, the most likely one first.
func takes(got string, names []string) string {
	names = slices.Clone(names)
	slices.Sort(names)
	if len(names) == 0 {
		return "there are none"
	}
	text := "it takes " + strings.Join(names[:min(len(names), 30)], ", ")
	if more := len(names) - 30; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	if near := nearest.Name(got, names); near != "" {
		text = fmt.Sprintf("did you mean %q? %s", near, text)
	}
	return text
}
