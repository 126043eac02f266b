package gcpckms

import (
	"strings"
)

// maxName bounds the resource names that are looked at, in bytes.
const maxName = 512

// ParseName returns the parameters of a key by its resource name, as the console and gcloud show it:
// "projects/P/locations/L/keyRings/R/cryptoKeys/K", with "/cryptoKeyVersions/N" for a version other than the first. A leading
// "//cloudkms.googleapis.com/" (a full resource name) or "gcpkms://" is left out. The error wraps
// backend.ErrInvalidParams.
func ParseName(name string) (Params, error) {
	rest := name
	for _, prefix := range []string{"//cloudkms.googleapis.com/", "gcpkms://"} {
		rest = strings.TrimPrefix(rest, prefix)
	}
	parts := strings.Split(rest, "/")
	if len(name) > maxName || len(parts) != 8 && len(parts) != 10 {
		return Params{}, badName(name)
	}
	for i, collection := range []string{"projects", "locations", "keyRings", "cryptoKeys", "cryptoKeyVersions"} {
		if 2*i < len(parts) && parts[2*i] != collection {
			return Params{}, badName(name)
		}
	}
	p := Params{Project: parts[1], Region: parts[3], KeyRing: parts[5], CryptoKey: parts[7], CryptoKeyVersion: "1"}
	if p.Project == "" || p.Region == "" { // which the environment must not fill in
		return Params{}, badName(name)
	}
	if len(parts) == 10 {
		p.CryptoKeyVersion = Version(parts[9])
		if p.CryptoKeyVersion == "" {
			return Params{}, badName(name)
		}
	}
	if err := p.Validate(); err != nil {
		return Params{}, err
	}
	return p, nil
}

func badName(name string) error {
	return invalid("name", "got %.120q; it takes projects/P/locations/L/keyRings/R/cryptoKeys/K, and then /cryptoKeyVersions/N or nothing", name)
}

// The resource names of what complete parameters describe.

func (p Params) location() string { return "projects/" + p.Project + "/locations/" + p.Region }

func (p Params) ring() string { return p.location() + "/keyRings/" + p.KeyRing }

func (p Params) key() string { return p.ring() + "/cryptoKeys/" + p.CryptoKey }

func (p Params) version(v Version) string { return p.key() + "/cryptoKeyVersions/" + string(v) }

// sameResource reports whether the service's answer may be about the resource that was asked for. It is, if the names are
// equal, or differ in the project only and that was asked for by its number: the service answers with the project's id.
func sameResource(asked, got string) bool {
	if asked == got {
		return true
	}
	askedProject, askedRest := cutProject(asked)
	gotProject, gotRest := cutProject(got)
	return askedRest == gotRest && askedRest != "" && gotProject != "" && projectForm.MatchString(gotProject) &&
		strings.Trim(askedProject, "0123456789") == ""
}

// cutProject returns the project of a resource name, and the rest.
func cutProject(name string) (project, rest string) {
	name, ok := strings.CutPrefix(name, "projects/")
	if !ok {
		return "", ""
	}
	project, rest, _ = strings.Cut(name, "/")
	return project, rest
}

// parent returns the name of the key that a version belongs to.
func parent(version string) string {
	key, _, _ := strings.Cut(version, "/cryptoKeyVersions/")
	return key
}
