package httpapi

import "strings"

// Routes are the methods of all paths, with "x" for parameters.
func Routes() map[string][]string {
	out := make(map[string][]string)
	for _, group := range [][]route{rootRoutes, issuerRoutes, keyRoutes, roleRoutes, leafRoutes, certRoutes, crlRoutes, crlSignRoutes, responderRoutes, configRoutes, tidyRoutes} {
		for _, r := range group {
			var segments []string
			for segment := range strings.SplitSeq(r.path, "/") {
				if segment[0] == ':' || segment[0] == '*' {
					segment = "x"
				}
				segments = append(segments, segment)
			}
			out[strings.Join(segments, "/")] = strings.Split(r.allowed(), ", ")
		}
	}
	return out
}

// Public reports whether a path is for everybody.
func Public(method, path string) bool { return new(handler).Public(method, path) }
