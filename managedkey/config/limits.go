package config

import "time"

// ListenerLimits are the limits of a listener. What is 0 is the server's default.
type ListenerLimits struct {
	MaxRequestSize        int64         `config:"max_request_size"` // bytes of a body
	MaxHeaderSize         int           `config:"max_header_size"`  // bytes
	MaxConcurrentRequests int           `config:"max_concurrent_requests"`
	MaxConnections        int           `config:"max_connections"`
	RatePerClient         float64       `config:"rate_per_client"` // requests per second
	BurstPerClient        int           `config:"burst_per_client"`
	RequestTimeout        time.Duration `config:"max_request_duration"`
	ReadHeaderTimeout     time.Duration `config:"http_read_header_timeout"`
	ReadTimeout           time.Duration `config:"http_read_timeout"`
	WriteTimeout          time.Duration `config:"http_write_timeout"`
	IdleTimeout           time.Duration `config:"http_idle_timeout"`
}

// AuditRotation says when an audit file is written to the disk and replaced. What is 0 is the default of the audit log.
type AuditRotation struct {
	FSync       string        `config:"fsync"`           // "always", "interval" (default) or "never"
	FSyncEvery  time.Duration `config:"fsync_interval"`  // of "interval"
	RotateBytes int64         `config:"rotate_bytes"`    // after how many bytes
	RotateAfter time.Duration `config:"rotate_duration"` // after how long
	RotateFiles int           `config:"rotate_max_files"`
	Mode        string        `config:"mode"` // of the file, octal; "0600" by default
}
