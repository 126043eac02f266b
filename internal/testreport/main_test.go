package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestReport(t *testing.T) {
	const pass = `{"Action":"pass","Package":"p","Test":"TestA"}` + "\n"
	for name, test := range map[string]struct {
		in   string
		ok   bool
		says string
	}{
		"pass":            {pass + `{"Action":"pass","Package":"p","Elapsed":1.5}` + "\n", true, "ok   p (1.5 s)\n1 passed, 0 failed, 0 skipped\n"},
		"fail":            {pass + `{"Action":"output","Package":"p","Test":"TestB","Output":"why\n"}` + "\n" + `{"Action":"fail","Package":"p","Test":"TestB"}` + "\n", false, "why\n1 passed, 1 failed, 0 skipped\n"},
		"skip":            {pass + `{"Action":"output","Package":"p","Test":"TestB","Output":"no token\n"}` + "\n" + `{"Action":"skip","Package":"p","Test":"TestB"}` + "\n", false, "no token\n1 passed, 0 failed, 1 skipped\n"},
		"no test files":   {pass + `{"Action":"skip","Package":"q"}` + "\n", true, "1 passed, 0 failed, 0 skipped\n"},
		"nothing":         {"", false, "0 passed, 0 failed, 0 skipped\n"},
		"build":           {pass + `{"Action":"build-output","Output":"syntax error\n"}` + "\n" + `{"Action":"fail","Package":"q"}` + "\n", false, "syntax error\nFAIL q (0.0 s)\n1 passed, 1 failed, 0 skipped\n"},
		"crash":           {pass + "panic: out of memory\n", false, "panic: out of memory\n1 passed, 1 failed, 0 skipped\n"},
		"crash in a test": {pass + `{"Action":"output","Package":"p","Test":"TestB","Output":"SIGSEGV\n"}` + "\n" + `{"Action":"fail","Package":"p"}` + "\n", false, "SIGSEGV\nFAIL p (0.0 s)\n1 passed, 1 failed, 0 skipped\n"},
		"no last break":   {strings.TrimSuffix(pass, "\n"), true, "1 passed, 0 failed, 0 skipped\n"},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			assert.Equal(t, test.ok, report(strings.NewReader(test.in), &out))
			assert.Equal(t, test.says, out.String())
		})
	}
}
