// Package nearest says what a misspelt name was probably meant to be.
package nearest

import "strings"

// Name returns the one of names that text is a misspelling of, or "" if none is near: it differs in at most one byte and one more
// for each four that it has, or in case only. Of several it is the nearest and then the first. The texts of a user may be long:
// those of more than 200 bytes are no misspelling.
func Name(text string, names []string) string {
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
