/* flood SECONDS [UID]: as user UID, takes faults at 5,000 places, one after the other,
 * again and again, for that long. The handler steps over the faulting instruction. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

enum { PLACES = 5000 };

#if defined(__x86_64__)
static const unsigned char load[] = { 0x8b, 0x04, 0x25, 8, 0, 0, 0 }; /* mov 8, %eax */
static const unsigned char back[] = { 0xc3 };
#define PC gregs[REG_RIP]
#else
static const unsigned char load[] = { 0x01, 0x00, 0x80, 0xd2, 0x20, 0x00, 0x40, 0xb9 };
static const unsigned char back[] = { 0xc0, 0x03, 0x5f, 0xd6 };
#define PC pc
#endif

static void skip(int signal, siginfo_t *info, void *context)
{
	ucontext_t *c = context;

	(void)signal;
	(void)info;
#if defined(__x86_64__)
	c->uc_mcontext.PC += sizeof(load);
#else
	c->uc_mcontext.PC += 4;
#endif
}

int main(int argc, char **argv)
{
	time_t end = time(NULL) + (argc > 1 ? atoi(argv[1]) : 1);
	struct sigaction action = { .sa_sigaction = skip, .sa_flags = SA_SIGINFO };
	size_t bytes = PLACES * sizeof(load) + sizeof(back);
	unsigned char *code = mmap(NULL, bytes, PROT_READ | PROT_WRITE | PROT_EXEC,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (code == MAP_FAILED || (argc > 2 && setresuid(atoi(argv[2]), atoi(argv[2]), atoi(argv[2]))))
		return 1;
	for (int i = 0; i < PLACES; i++)
		memcpy(code + i * sizeof(load), load, sizeof(load));
	memcpy(code + PLACES * sizeof(load), back, sizeof(back));
	__builtin___clear_cache((char *)code, (char *)code + bytes);
	sigaction(SIGSEGV, &action, NULL);
	while (time(NULL) < end)
		((void (*)(void))code)();
	return 0;
}
