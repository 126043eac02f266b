//go:build !unix

package regularfile

// nonblocking is nothing where there are no named pipes among the files.
const nonblocking = 0
