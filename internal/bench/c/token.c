#include "token.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

CK_FUNCTION_LIST_PTR p11;
CK_SLOT_ID slot;
CK_SESSION_HANDLE login;

void die(const char *what, const char *detail) {
	fprintf(stderr, "bench.c: %s: %s\n", what, detail);
	exit(1);
}

void check(const char *what, CK_RV rv) {
	if (rv != CKR_OK) {
		char text[32];
		snprintf(text, sizeof text, "CKR 0x%lx", (unsigned long)rv);
		die(what, text);
	}
}

static const char *environment(const char *name) {
	const char *value = getenv(name);
	if (!value)
		die(name, "is not set");
	return value;
}

int64_t now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

void connect_token(void) {
	if (p11)
		return;
	void *module = dlopen(environment("MANAGEDKEYS_BENCH_MODULE"), RTLD_NOW);
	if (!module)
		die("dlopen", dlerror());
	CK_C_GetFunctionList list = (CK_C_GetFunctionList)dlsym(module, "C_GetFunctionList");
	if (!list)
		die("dlsym", dlerror());
	check("C_GetFunctionList", list(&p11));
	CK_C_INITIALIZE_ARGS args = {.flags = CKF_OS_LOCKING_OK};
	check("C_Initialize", p11->C_Initialize(&args));

	CK_SLOT_ID slots[16];
	CK_ULONG n = COUNT(slots), i;
	check("C_GetSlotList", p11->C_GetSlotList(CK_TRUE, slots, &n));
	const char *label = environment("MANAGEDKEYS_BENCH_TOKEN");
	for (i = 0; i < n; i++) {
		CK_TOKEN_INFO info;
		char padded[sizeof info.label + 1];
		snprintf(padded, sizeof padded, "%-32s", label); /* blank-padded: PKCS#11 v2.40, CK_TOKEN_INFO */
		if (p11->C_GetTokenInfo(slots[i], &info) == CKR_OK && !memcmp(info.label, padded, sizeof info.label))
			break;
	}
	if (i == n)
		die("no token", label);
	slot = slots[i];
	check("C_OpenSession", p11->C_OpenSession(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &login));
	const char *pin = environment("MANAGEDKEYS_BENCH_PIN");
	check("C_Login", p11->C_Login(login, CKU_USER, (CK_UTF8CHAR_PTR)pin, strlen(pin)));
}

CK_OBJECT_HANDLE find(CK_OBJECT_CLASS class, const char *label) {
	CK_ATTRIBUTE template[] = {{CKA_CLASS, &class, sizeof class}, {CKA_LABEL, (char *)label, strlen(label)}};
	CK_OBJECT_HANDLE found[2];
	CK_ULONG n;
	check("C_FindObjectsInit", p11->C_FindObjectsInit(login, template, COUNT(template)));
	check("C_FindObjects", p11->C_FindObjects(login, found, COUNT(found), &n));
	check("C_FindObjectsFinal", p11->C_FindObjectsFinal(login));
	if (n != 1)
		die("not exactly one key", label);
	return found[0];
}
