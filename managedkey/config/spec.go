package config

// fileSpec is what may stand in a file.
var fileSpec = &spec{blocks: map[string]*spec{
	"kms_library": {labels: []string{"type"}},
	"connection":  {labels: []string{"type", "name"}},
	"namespace":   {labels: []string{"path"}},
	"managed_key": {labels: []string{"type", "name"}, blocks: map[string]*spec{"version": {labels: []string{"number"}}}},
	"mount":       {labels: []string{"type", "path"}},
	"store":       {labels: []string{"type"}},
	"seal":        {labels: []string{"type"}},
	"listener":    {labels: []string{"type"}},
	"audit":       {labels: []string{"type"}},
	"telemetry":   {},
	"policy":      {labels: []string{"name"}, blocks: map[string]*spec{"path": {labels: []string{"pattern"}}}},
	"auth":        {labels: []string{"type", "name"}},
}}
