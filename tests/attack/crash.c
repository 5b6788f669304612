/* Maps the code of files, puts places in them on a stack as return addresses, and
 * crashes in the first of them.
 *
 * crash PLACES FILE...   PLACES: how many return addresses to put there, 0 for none.
 *
 * The code of each file stands at its offset and address 0x1000 (elf.py). PERF_MAP: a
 * file that becomes /tmp/perf-PID.map; the crash is then in memory of no file. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CODE_AT = 0x1000, CODE_BYTES = 1 << 20, STACK_BYTES = 1 << 20 };

/* xor %eax, %eax; mov (%rax), %eax */
static const unsigned char CRASH[] = {0x31, 0xc0, 0x8b, 0x00};

static unsigned char *map_code(const char *path)
{
	int fd = open(path, O_RDONLY);
	void *code;

	if (fd < 0)
		return NULL;
	code = mmap(NULL, CODE_BYTES, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, CODE_AT);
	close(fd);
	return code == MAP_FAILED ? NULL : code;
}

/* As the files' code: behind each address that is put on the stack is a call. */
static unsigned char *make_code(const char *map)
{
	unsigned char *code = mmap(NULL, CODE_BYTES, PROT_READ | PROT_WRITE | PROT_EXEC,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char path[64];

	memset(code, 0x06, CODE_BYTES);
	for (size_t at = 16; at < CODE_BYTES; at += 16) {
		code[at + 10] = 0xe8;
		memset(code + at + 11, 0, 4);
	}
	memcpy(code, CRASH, sizeof CRASH);
	snprintf(path, sizeof path, "/tmp/perf-%d.map", getpid());
	if (link(map, path))
		perror(path);
	return code;
}

int main(int argc, char **argv)
{
	long places = argc > 1 ? atol(argv[1]) : 0;
	const char *map = getenv("PERF_MAP");
	size_t count = 0;
	unsigned char **codes = calloc(argc + 1, sizeof *codes);
	uint64_t *stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t *sp = stack + STACK_BYTES / 16;

	if (map)
		codes[count++] = make_code(map);
	for (int i = 2; i < argc; i++)
		if ((codes[count] = map_code(argv[i])))
			count++;
	if (!count)
		return 3;
	srand(1);
	for (long i = 0; i < places && i < STACK_BYTES / 16; i++) {
		uint32_t at = ((uint32_t)rand() % (CODE_BYTES / 16 - 1) + 1) * 16 + 15;

		sp[i] = (uint64_t)(uintptr_t)codes[i % count] + at;
	}
	__asm__ volatile("mov %0, %%rsp\n\txor %%ebp, %%ebp\n\tjmp *%1" : : "r"(sp), "r"(codes[0]));
	__builtin_unreachable();
}
