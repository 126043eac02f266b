package pkcs11

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// TestMain also looks for goroutines that are left over. Calls that p11-kit's client never ends are none: what waits for
// their return was left behind with the instance of the module that they hang in.
func TestMain(m *testing.M) {
	asChild()
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(leftBehind()...); err != nil {
			fmt.Fprintln(os.Stderr, "goleak:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// leftBehind returns what may be left over, which is nothing unless an instance of a module was given up: calls of
// workers, the closing of their sessions, and recoveries.
func leftBehind() (ignored []goleak.Option) {
	instances.Lock()
	defer instances.Unlock()
	for _, i := range instances.all {
		if i.left.Load() == 0 {
			continue
		}
		for _, f := range []string{"(*worker).run", "(*worker).close", "(*pool).closeSpare", "(*pool).close.func2", "(*conn).recover"} {
			ignored = append(ignored, goleak.IgnoreAnyFunction("github.com/managedkeys/managedkeys/backend/pkcs11."+f))
		}
	}
	return ignored
}
