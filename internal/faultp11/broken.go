package faultp11

// Crashing returns the path of a module whose C_Initialize writes to address 0, which kills the process. The file is
// removed after the test. This and the functions below end the test as [Require] does without a C compiler.
func Crashing(tb TB) string {
	tb.Helper()
	return install(tb, "crashing.so", crashes)
}

// Aborting returns the path of a module whose C_Initialize calls abort, which kills the process.
func Aborting(tb TB) string {
	tb.Helper()
	return install(tb, "aborting.so", aborts)
}

// NotAModule returns the path of a shared library without C_GetFunctionList.
func NotAModule(tb TB) string {
	tb.Helper()
	return install(tb, "library.so", empty)
}

// Refusing returns the path of a module whose C_GetFunctionList returns CKR_GENERAL_ERROR.
func Refusing(tb TB) string {
	tb.Helper()
	return install(tb, "refusing.so", refuses)
}

// NoList returns the path of a module whose C_GetFunctionList returns CKR_OK and a NULL list.
func NoList(tb TB) string {
	tb.Helper()
	return install(tb, "nolist.so", noList)
}
