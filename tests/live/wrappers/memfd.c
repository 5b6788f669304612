/* memfd PROGRAM: runs a copy of PROGRAM that is in no file system. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

extern char **environ;

int main(int argc, char **argv)
{
	const char *slash = argc > 1 ? strrchr(argv[1], '/') : NULL;
	char buffer[4096];
	ssize_t count;

	if (!slash)
		return 2;
	int from = open(argv[1], O_RDONLY);
	int to = memfd_create(slash + 1, 0);
	while ((count = read(from, buffer, sizeof(buffer))) > 0)
		if (write(to, buffer, count) != count)
			return 1;
	fexecve(to, argv + 1, environ);
	perror("fexecve");
	return 1;
}
