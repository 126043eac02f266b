package azurekeyvault

import (
	"net/url"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
)

// environment is one of Azure's clouds.
type environment struct {
	names      []string // the one to use first
	cloud      cloud.Configuration
	vault, hsm string // domains of vaults and of Managed HSMs
}

// environments are the clouds that there are. (The German one, AZUREGERMANCLOUD, was closed in 2021.)
var environments = []environment{
	{[]string{"AZUREPUBLICCLOUD", "AZURECLOUD"}, cloud.AzurePublic, "vault.azure.net", "managedhsm.azure.net"},
	{[]string{"AZUREUSGOVERNMENTCLOUD", "AZUREUSGOVERNMENT"}, cloud.AzureGovernment, "vault.usgovcloudapi.net", "managedhsm.usgovcloudapi.net"},
	{[]string{"AZURECHINACLOUD"}, cloud.AzureChina, "vault.azure.cn", "managedhsm.azure.cn"},
}

// place is where a vault is.
type place struct {
	environment environment
	resource    string // in lower case, without scheme
	sure        bool   // the cloud was named, or follows from the resource
}

// noEnv has no environment variables.
func noEnv(string) string { return "" }

// place returns where the fields and, for those that are empty, the environment variables say that the vault is.
func (p Params) place(getenv func(string) string) (place, error) {
	resource, field := p.Resource, "resource"
	if resource == "" && p.Environment == "" {
		resource, field = getenv("AZURE_AD_RESOURCE"), "AZURE_AD_RESOURCE"
	}
	resource = strings.TrimSuffix(strings.TrimPrefix(strings.ToLower(resource), "https://"), "/")
	if resource != "" && (len(resource) > 200 || !hostNames.MatchString(resource)) {
		return place{}, invalid(field, "got %.60q; it takes the domain of the vaults, such as vault.azure.net or managedhsm.azure.net", resource)
	}
	i := slices.IndexFunc(environments, func(e environment) bool { return resource == e.vault || resource == e.hsm })
	name, from := p.Environment, "environment"
	if name == "" && i < 0 {
		name, from = getenv("AZURE_ENVIRONMENT"), "AZURE_ENVIRONMENT"
	}
	if name == "" {
		return place{environments[max(i, 0)], resource, i >= 0}.complete(), nil
	}
	named := slices.IndexFunc(environments, func(e environment) bool { return slices.Contains(e.names, strings.ToUpper(name)) })
	switch {
	case named < 0:
		return place{}, invalid(from, "got %.40q; it takes AZUREPUBLICCLOUD, AZUREUSGOVERNMENTCLOUD or AZURECHINACLOUD", name)
	case i >= 0 && i != named:
		return place{}, invalid(field, "got %q, which is not of the environment %s; it takes %s or %s there", resource,
			environments[named].names[0], environments[named].vault, environments[named].hsm)
	}
	return place{environments[named], resource, true}.complete(), nil
}

// complete fills in the domain.
func (w place) complete() place {
	if w.resource == "" {
		w.resource = w.environment.vault
	}
	return w
}

// vaultURL returns the base URL of the vault of that name.
func (w place) vaultURL(name string) string {
	return "https://" + strings.ToLower(name) + "." + w.resource
}

// isManagedHSM reports whether the vault at a host is a Managed HSM: that is how their names end in every cloud.
func isManagedHSM(host string) bool {
	_, domain, _ := strings.Cut(host, ".")
	return strings.HasPrefix(domain, "managedhsm.")
}

// parseVaultURL returns the base URL of a vault in the form in which this package has it.
func parseVaultURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, invalid("vault URL", "%.100q can't be parsed", text)
	case u.Scheme != "https" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" || u.Host == "":
		return nil, invalid("vault URL", "got %.100q; it takes https://NAME.DOMAIN, such as https://myvault.vault.azure.net", u.Redacted())
	}
	host := strings.ToLower(u.Host)
	if !hostNames.MatchString(strings.ToLower(u.Hostname())) {
		return nil, invalid("vault URL", "got the host %.100q; it takes a domain name", u.Host)
	}
	return &url.URL{Scheme: "https", Host: host}, nil
}
