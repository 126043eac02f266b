package config

import (
	"fmt"
	"slices"
	"strings"
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
	if near := nearest(got, names); near != "" {
		text = fmt.Sprintf("did you mean %q? %s", near, text)
	}
	return text
}

// nearest returns the one of names that text is a misspelling of, or "".
func nearest(text string, names []string) string {
	if len(text) > 200 {
		return ""
	}
	best, found := 1+len(text)/4, ""
	for _, name := range names {
		if strings.EqualFold(text, name) {
			return name
		}
		if abs(len(name)-len(text)) > best {
			continue
		}
		if d := distance(text, name); d <= best && (found == "" || d < best) {
			best, found = d, name
		}
	}
	return found
}

func abs(n int) int { return max(n, -n) }

// distance is the number of bytes to insert, delete or replace to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
