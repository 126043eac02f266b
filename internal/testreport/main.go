// Command testreport reads the output of "go test -json" and prints a line per package, the output of what failed, and a
// count. It exits with 1 if a test failed or was skipped, or if no test ran: where the checks run, a part that is
// missing must be seen.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
)

// event is a line of test2json (go doc test2json) or of a build's output.
type event struct {
	Action  string
	Package string
	Test    string
	Output  string
	Elapsed float64
}

func main() {
	if !report(os.Stdin, os.Stdout) {
		os.Exit(1)
	}
}

// unfinished prints the end of the output of tests of a package that never ended: what the program said when it crashed.
func unfinished(output map[string]*strings.Builder, name string, out io.Writer) {
	const most = 20000 // bytes
	for id, text := range output {
		if strings.HasPrefix(id, name+"\x00") {
			all := text.String()
			fmt.Fprint(out, all[max(0, len(all)-most):])
			delete(output, id)
		}
	}
}

// report returns whether everything passed and something ran.
func report(in io.Reader, out io.Writer) bool {
	var passed, failed, skipped int
	brokenPackages := 0
	output := map[string]*strings.Builder{} // by package and test, until it is known how the test ended
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) != nil {
				fmt.Fprintf(out, "%s", line) // not an event: something that went wrong before the tests
				brokenPackages++
				continue
			}
			id := e.Package + "\x00" + e.Test
			switch e.Action {
			case "build-output":
				fmt.Fprint(out, e.Output)
			case "output":
				if output[id] == nil {
					output[id] = new(strings.Builder)
				}
				output[id].WriteString(e.Output)
			case "pass", "fail", "skip":
				text := output[id]
				delete(output, id)
				if text != nil && (e.Action == "fail" || e.Action == "skip" && e.Test != "") {
					fmt.Fprint(out, text)
				}
				switch {
				case e.Test == "" && e.Action == "fail":
					brokenPackages++
					unfinished(output, e.Package, out)
					fmt.Fprintf(out, "FAIL %s (%.1f s)\n", e.Package, e.Elapsed)
				case e.Test == "" && e.Action == "pass":
					fmt.Fprintf(out, "ok   %s (%.1f s)\n", e.Package, e.Elapsed)
				case e.Test != "" && e.Action == "pass":
					passed++
				case e.Test != "" && e.Action == "fail":
					failed++
				case e.Test != "":
					skipped++
				}
			}
		}
		if err != nil {
			break
		}
	}
	if failed == 0 && brokenPackages > 0 {
		failed = brokenPackages
	}
	fmt.Fprintf(out, "%d passed, %d failed, %d skipped\n", passed, failed, skipped)
	return passed > 0 && failed == 0 && skipped == 0
}
