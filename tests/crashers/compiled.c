/* Calls code that it has just written into memory of its own, as a just-in-time
 * compiler does, and which reads through a null pointer. With an argument it
 * first writes /tmp/perf-PID.map, where "compiled_function" names that code, and
 * sets the map's time back by as many seconds as the argument says.
 *
 * Dies by SIGSEGV (SEGV_MAPERR, address 0, read).
 * Chain: compiled_function run main. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "crash.h"

#if defined(__x86_64__)
/* xor %eax,%eax; mov (%rax),%eax; ret */
static const unsigned char code[] = { 0x31, 0xc0, 0x8b, 0x00, 0xc3 };
#elif defined(__aarch64__)
/* mov x0, #0; ldr w0, [x0]; ret */
static const unsigned char code[] = { 0x00, 0x00, 0x80, 0xd2, 0x00, 0x00, 0x40, 0xb9,
				      0xc0, 0x03, 0x5f, 0xd6 };
#endif

static void write_map(const void *place, int age)
{
	struct timespec times[2];
	char path[64];
	FILE *map;

	snprintf(path, sizeof(path), "/tmp/perf-%d.map", (int)getpid());
	map = fopen(path, "w");
	if (!map)
		exit(1);
	fprintf(map, "%lx %zx compiled_function\n", (unsigned long)place, sizeof(code));
	fclose(map);
	clock_gettime(CLOCK_REALTIME, &times[0]);
	times[0].tv_sec -= age;
	times[1] = times[0];
	utimensat(AT_FDCWD, path, times, 0);
}

FRAME int run(void *place)
{
	int value = ((int (*)(void))place)();
	KEEP_FRAME();
	return value + 1;
}

int main(int argc, char **argv)
{
	void *place = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (place == MAP_FAILED)
		return 1;
	memcpy(place, code, sizeof(code));
	__builtin___clear_cache(place, (char *)place + sizeof(code));
	if (argc > 1)
		write_map(place, atoi(argv[1]));
	int value = run(place);
	KEEP_FRAME();
	return value;
}
