/*
 * The yardstick of the PKCS#11 tables: what a careful C program gets out of the module. It answers lines on standard
 * input, fields separated by tabs, with lines on standard output:
 *
 *   make                            makes the keys that the rates are measured with
 *   fill    PAIRS DATA              makes EC key pairs k-0000, k-0001, ... and data objects
 *   rate    ALGORITHM THREADS NS    operations per second, and per second of processor time
 *   sweep                           ns to connect, ns to read what all objects are, number of objects
 *   cold    LABEL                   ns from loading the module to the first signature
 *
 * The module, the label of the token and the PIN come from the environment. Whatever fails ends the program.
 */
#include "token.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { MAX_THREADS = 64, BATCH = 1024 };

static CK_SESSION_HANDLE sessions[MAX_THREADS];

/* The inputs. DigestInfo of SHA-256: RFC 8017, Section 9.2, note 1; the digest's own bytes don't matter. */
static CK_BYTE digest[32] = "0123456789abcdef0123456789abcde";
static CK_BYTE digest_info[51] = {0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01,
				  0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20};
static CK_BYTE message[1024], ciphertext[256];

static CK_RSA_PKCS_PSS_PARAMS pss = {CKM_SHA256, CKG_MGF1_SHA256, 32};
static CK_RSA_PKCS_OAEP_PARAMS oaep = {CKM_SHA_1, CKG_MGF1_SHA1, CKZ_DATA_SPECIFIED, NULL, 0};

enum kind { SIGN, DECRYPT, ENCRYPT_GCM };

static struct operation {
	const char *name, *label;
	CK_OBJECT_CLASS class;
	enum kind kind;
	CK_MECHANISM mechanism;
	CK_BYTE *input;
	CK_ULONG length;
	CK_OBJECT_HANDLE key;
} operations[] = {
	{"ECDSA P-256", "ec", CKO_PRIVATE_KEY, SIGN, {CKM_ECDSA, NULL, 0}, digest, sizeof digest, 0},
	{"RSA-2048 PKCS#1", "rsa", CKO_PRIVATE_KEY, SIGN, {CKM_RSA_PKCS, NULL, 0}, digest_info, sizeof digest_info, 0},
	{"RSA-2048 PSS", "rsa", CKO_PRIVATE_KEY, SIGN, {CKM_RSA_PKCS_PSS, &pss, sizeof pss}, digest, sizeof digest, 0},
	{"RSA-2048 OAEP", "oaep", CKO_PRIVATE_KEY, DECRYPT, {CKM_RSA_PKCS_OAEP, &oaep, sizeof oaep}, ciphertext, sizeof ciphertext, 0},
	{"HMAC 1 KiB", "hmac", CKO_SECRET_KEY, SIGN, {CKM_SHA256_HMAC, NULL, 0}, message, sizeof message, 0},
	{"AES-256-GCM 1 KiB", "aes", CKO_SECRET_KEY, ENCRYPT_GCM, {CKM_AES_GCM, NULL, 0}, message, sizeof message, 0},
};

/* prepare finds the keys, opens a session for each thread and makes the ciphertext that is decrypted. */
static void prepare(void) {
	if (sessions[0])
		return;
	connect_token();
	for (size_t i = 0; i < COUNT(operations); i++)
		operations[i].key = find(operations[i].class, operations[i].label);
	for (int i = 0; i < MAX_THREADS; i++)
		check("C_OpenSession", p11->C_OpenSession(slot, CKF_SERIAL_SESSION, NULL, NULL, &sessions[i]));
	CK_MECHANISM mechanism = {CKM_RSA_PKCS_OAEP, &oaep, sizeof oaep};
	CK_ULONG n = sizeof ciphertext;
	check("C_EncryptInit", p11->C_EncryptInit(login, &mechanism, find(CKO_PUBLIC_KEY, "oaep")));
	check("C_Encrypt", p11->C_Encrypt(login, digest, sizeof digest, ciphertext, &n));
}

/* once does the operation in the session. Its output is longer than any result, so that no size is asked for. */
static void once(const struct operation *op, CK_SESSION_HANDLE session, uint64_t *random) {
	CK_BYTE output[1024 + 16], nonce[12];
	CK_ULONG n = sizeof output;
	CK_MECHANISM mechanism = op->mechanism;
	CK_GCM_PARAMS gcm = {.pIv = nonce, .ulIvLen = sizeof nonce, .ulIvBits = 8 * sizeof nonce, .ulTagBits = 128};
	switch (op->kind) {
	case SIGN:
		check("C_SignInit", p11->C_SignInit(session, &mechanism, op->key));
		check("C_Sign", p11->C_Sign(session, op->input, op->length, output, &n));
		break;
	case DECRYPT:
		check("C_DecryptInit", p11->C_DecryptInit(session, &mechanism, op->key));
		check("C_Decrypt", p11->C_Decrypt(session, op->input, op->length, output, &n));
		break;
	case ENCRYPT_GCM:
		*random ^= *random << 13, *random ^= *random >> 7, *random ^= *random << 17; /* xorshift64 */
		memcpy(nonce, random, 8);
		memcpy(nonce + 8, &session, 4);
		mechanism.pParameter = &gcm;
		mechanism.ulParameterLen = sizeof gcm;
		check("C_EncryptInit", p11->C_EncryptInit(session, &mechanism, op->key));
		check("C_Encrypt", p11->C_Encrypt(session, op->input, op->length, output, &n));
	}
}

struct worker {
	pthread_t thread;
	const struct operation *op;
	CK_SESSION_HANDLE session;
	int64_t end;
	long count;
};

static void *work(void *argument) {
	struct worker *w = argument;
	uint64_t random = (uint64_t)now() * 2 + 1;
	do {
		once(w->op, w->session, &random);
		w->count++;
	} while (now() < w->end);
	return NULL;
}

static double cpu_seconds(void) {
	struct rusage used;
	getrusage(RUSAGE_SELF, &used);
	return used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

static void rate(const char *algorithm, int threads, int64_t window) {
	prepare();
	const struct operation *op = operations;
	while (strcmp(op->name, algorithm))
		if (++op == operations + COUNT(operations))
			die("no algorithm", algorithm);
	if (threads < 1 || threads > MAX_THREADS)
		die("rate", "takes 1 to 64 threads");
	struct worker workers[MAX_THREADS];
	long count = 0;
	double used = cpu_seconds();
	int64_t start = now();
	for (int i = 0; i < threads; i++) {
		workers[i] = (struct worker){.op = op, .session = sessions[i], .end = start + window};
		if (pthread_create(&workers[i].thread, NULL, work, &workers[i]))
			die("pthread_create", "failed");
	}
	for (int i = 0; i < threads; i++) {
		pthread_join(workers[i].thread, NULL);
		count += workers[i].count;
	}
	printf("%f\t%f\n", count / ((now() - start) / 1e9), count / (cpu_seconds() - used));
}

/* sweep reads class, key type, id and label of every object, with buffers that are long enough for each. */
static void sweep(void) {
	int64_t start = now();
	connect_token();
	int64_t connected = now();
	static CK_OBJECT_HANDLE batch[BATCH];
	CK_ULONG n;
	long count = 0;
	check("C_FindObjectsInit", p11->C_FindObjectsInit(login, NULL, 0));
	do {
		check("C_FindObjects", p11->C_FindObjects(login, batch, BATCH, &n));
		for (CK_ULONG i = 0; i < n; i++) {
			CK_OBJECT_CLASS class;
			CK_KEY_TYPE type;
			CK_BYTE id[256], label[256];
			CK_ATTRIBUTE template[] = {FIELD(CKA_CLASS, class), FIELD(CKA_KEY_TYPE, type), FIELD(CKA_ID, id), FIELD(CKA_LABEL, label)};
			CK_RV rv = p11->C_GetAttributeValue(login, batch[i], template, COUNT(template));
			if (rv != CKR_ATTRIBUTE_TYPE_INVALID) /* as it is for the data objects, which have no key type */
				check("C_GetAttributeValue", rv);
		}
		count += n;
	} while (n > 0);
	check("C_FindObjectsFinal", p11->C_FindObjectsFinal(login));
	int64_t end = now();
	printf("%lld\t%lld\t%ld\n", (long long)(connected - start), (long long)(end - connected), count);
}

static void cold(const char *label) {
	int64_t start = now();
	struct operation op = operations[0];
	connect_token();
	op.key = find(op.class, label);
	once(&op, login, NULL);
	printf("%lld\n", (long long)(now() - start));
}

int main(void) {
	char line[256];
	while (fgets(line, sizeof line, stdin)) {
		char *field[4] = {"", "", "", ""}, *save = NULL;
		size_t n = 0;
		for (char *f = strtok_r(line, "\t\n", &save); f && n < COUNT(field); f = strtok_r(NULL, "\t\n", &save))
			field[n++] = f;
		if (!strcmp(field[0], "make"))
			make();
		else if (!strcmp(field[0], "fill"))
			fill(atoi(field[1]), atoi(field[2]));
		else if (!strcmp(field[0], "rate"))
			rate(field[1], atoi(field[2]), atoll(field[3]));
		else if (!strcmp(field[0], "sweep"))
			sweep();
		else if (!strcmp(field[0], "cold"))
			cold(field[1]);
		else
			die("no command", field[0]);
		fflush(stdout);
	}
	return 0;
}
