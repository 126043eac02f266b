package fakegcp

import (
	"regexp"

	"google.golang.org/grpc/codes"
)

const (
	location = `projects/[^/]{1,100}/locations/[a-z0-9-]{1,40}`
	id       = `[a-zA-Z0-9_-]{1,63}`
)

var (
	locationName = regexp.MustCompile(`^(` + location + `)$`)
	ringName     = regexp.MustCompile(`^(` + location + `/keyRings/` + id + `)$`)
	keyName      = regexp.MustCompile(`^(` + location + `/keyRings/` + id + `)/cryptoKeys/(` + id + `)$`)
	versionName  = regexp.MustCompile(`^(` + location + `/keyRings/` + id + `/cryptoKeys/` + id + `)/cryptoKeyVersions/([0-9]{1,10})$`)
	jobName      = regexp.MustCompile(`^(` + location + `/keyRings/` + id + `)/importJobs/(` + id + `)$`)
	plainID      = regexp.MustCompile(`^` + id + `$`)
)

// parse returns the parts of a name, or an error of the service.
func parse(form *regexp.Regexp, name string) ([]string, error) {
	parts := form.FindStringSubmatch(name)
	if parts == nil {
		return nil, refuse(codes.InvalidArgument, "The resource name %.200q is malformed.", name)
	}
	return parts[1:], nil
}
