/* Makes keys and other objects. */
#include "token.h"

#include <stdio.h>
#include <string.h>

static CK_BBOOL yes = CK_TRUE, no = CK_FALSE;

static void make_pair(CK_MECHANISM_TYPE type, const char *label, CK_BYTE *id, CK_ULONG length, CK_BBOOL signs) {
	static CK_BYTE p256[] = {0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07}; /* RFC 5480, Section 2.1.1.1 */
	CK_MECHANISM mechanism = {type, NULL, 0};
	CK_ULONG bits = 2048;
	CK_BBOOL decrypts = !signs;
	CK_ATTRIBUTE public[] = {
		FIELD(CKA_TOKEN, yes), FIELD(CKA_PRIVATE, no), FIELD(CKA_VERIFY, signs), FIELD(CKA_ENCRYPT, decrypts),
		{CKA_LABEL, (char *)label, strlen(label)}, {CKA_ID, id, length},
		type == CKM_EC_KEY_PAIR_GEN ? (CK_ATTRIBUTE)FIELD(CKA_EC_PARAMS, p256)
					    : (CK_ATTRIBUTE)FIELD(CKA_MODULUS_BITS, bits)};
	CK_ATTRIBUTE private[] = {
		FIELD(CKA_TOKEN, yes), FIELD(CKA_PRIVATE, yes), FIELD(CKA_SENSITIVE, yes), FIELD(CKA_EXTRACTABLE, no),
		FIELD(CKA_SIGN, signs), FIELD(CKA_DECRYPT, decrypts),
		{CKA_LABEL, (char *)label, strlen(label)}, {CKA_ID, id, length}};
	CK_OBJECT_HANDLE a, b;
	check("C_GenerateKeyPair", p11->C_GenerateKeyPair(login, &mechanism, public, COUNT(public), private, COUNT(private), &a, &b));
}

static void make_secret(CK_MECHANISM_TYPE type, const char *label, CK_BYTE id, CK_BBOOL signs) {
	CK_MECHANISM mechanism = {type, NULL, 0};
	CK_ULONG length = 32;
	CK_BBOOL encrypts = !signs;
	CK_ATTRIBUTE template[] = {
		FIELD(CKA_TOKEN, yes), FIELD(CKA_PRIVATE, yes), FIELD(CKA_SENSITIVE, yes), FIELD(CKA_EXTRACTABLE, no),
		FIELD(CKA_SIGN, signs), FIELD(CKA_VERIFY, signs), FIELD(CKA_ENCRYPT, encrypts), FIELD(CKA_DECRYPT, encrypts),
		FIELD(CKA_VALUE_LEN, length), {CKA_LABEL, (char *)label, strlen(label)}, FIELD(CKA_ID, id)};
	CK_OBJECT_HANDLE key;
	check("C_GenerateKey", p11->C_GenerateKey(login, &mechanism, template, COUNT(template), &key));
}

void make(void) {
	connect_token();
	make_pair(CKM_EC_KEY_PAIR_GEN, "ec", (CK_BYTE[]){1}, 1, CK_TRUE);
	make_pair(CKM_RSA_PKCS_KEY_PAIR_GEN, "rsa", (CK_BYTE[]){2}, 1, CK_TRUE);
	make_pair(CKM_RSA_PKCS_KEY_PAIR_GEN, "oaep", (CK_BYTE[]){3}, 1, CK_FALSE);
	make_secret(CKM_GENERIC_SECRET_KEY_GEN, "hmac", 4, CK_TRUE);
	make_secret(CKM_AES_KEY_GEN, "aes", 5, CK_FALSE);
	puts("ok");
}

void fill(int pairs, int data) {
	connect_token();
	for (int i = 0; i < pairs; i++) {
		char label[16];
		snprintf(label, sizeof label, "k-%04d", i);
		make_pair(CKM_EC_KEY_PAIR_GEN, label, (CK_BYTE[]){1, i >> 8, i}, 3, CK_TRUE);
	}
	for (int i = 0; i < data; i++) {
		CK_OBJECT_CLASS class = CKO_DATA;
		CK_BYTE value[32] = {i >> 8, i};
		CK_OBJECT_HANDLE object;
		char label[16];
		snprintf(label, sizeof label, "d-%05d", i);
		CK_ATTRIBUTE template[] = {FIELD(CKA_CLASS, class), FIELD(CKA_TOKEN, yes), FIELD(CKA_PRIVATE, no),
					   {CKA_LABEL, label, strlen(label)}, FIELD(CKA_VALUE, value)};
		check("C_CreateObject", p11->C_CreateObject(login, template, COUNT(template), &object));
	}
	puts("ok");
}
