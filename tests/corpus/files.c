// Programs and libraries whose files are not where they were.
//
// chain unlinked: <gone> null_write unlinked inner middle outer main <start>
// chain worker: null_write worker inner middle outer main <start>
// chain replaced: <gone> null_write replaced inner middle outer main <start>
// chain in_memory: <gone> null_write in_memory inner middle outer main <start>
// chain in_library: plugin_faults plugin_enters in_library inner middle outer main <start>
// chain called_back: null_write called_back plugin_calls calls_back inner middle outer main <start>
// chain unloads: null_write unloaded [plugin_calls|?] unloads inner middle outer main <start>
// chain process_one: null_write process_one inner middle outer main <start>
#define _GNU_SOURCE
#include "chain.h"
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;
static char **arguments;

CALLED void null_write(void)
{
	*(volatile int *)hide(0) = 1;
	sink++;
}

static inline void own_path(char *path)
{
	ssize_t length = readlink("/proc/self/exe", path, PATH_MAX);
	path[length < 0 ? 0 : length] = 0;
}

// A copy of this program that may be harmed; back in main with `again` set.
static inline int copied(void)
{
	if (getenv("AGAIN"))
		return 1;
	char from[PATH_MAX + 1], to[PATH_MAX + 32];
	own_path(from);
	snprintf(to, sizeof(to), "%s.%d", from, (int)getpid());
	int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0755);
	char bytes[4096];
	for (ssize_t got; (got = read(in, bytes, sizeof(bytes))) > 0;)
		if (write(out, bytes, got) != got)
			_exit(3);
	close(out);
	setenv("AGAIN", "1", 1);
	execv(to, arguments);
	_exit(3);
}

CALLED void unlinked(void)
{
	char path[PATH_MAX + 1];
	copied();
	own_path(path);
	unlink(path);
	null_write();
	sink++;
}

// As a server whose program was replaced: the parent of who crashes still runs it.
CALLED void worker(void)
{
	char path[PATH_MAX + 1];
	copied();
	own_path(path);
	unlink(path);
	pid_t child = fork();
	if (!child)
		null_write();
	int status = 0;
	waitpid(child, &status, 0);
	usleep(400000);
	if (WIFSIGNALED(status))
		_exit(128 + WTERMSIG(status));
	sink++;
}

// Something else is in its place: no name may come from there.
CALLED void replaced(void)
{
	char path[PATH_MAX + 1];
	copied();
	own_path(path);
	unlink(path);
	int out = open(path, O_WRONLY | O_CREAT, 0755);
	if (write(out, "#!/bin/true\n", 12) != 12)
		_exit(3);
	close(out);
	null_write();
	unlink(path);
	sink++;
}

CALLED void in_memory(void)
{
	if (!getenv("AGAIN")) {
		char path[PATH_MAX + 1], bytes[4096];
		own_path(path);
		int in = open(path, O_RDONLY);
		int out = syscall(SYS_memfd_create, strrchr(path, '/') + 1, MFD_CLOEXEC);
		for (ssize_t got; (got = read(in, bytes, sizeof(bytes))) > 0;)
			if (write(out, bytes, got) != got)
				_exit(3);
		setenv("AGAIN", "1", 1);
		fexecve(out, arguments, environ);
		_exit(3);
	}
	null_write();
	sink++;
}

static void *library;

static inline void *plugin(const char *name)
{
	char path[PATH_MAX + 32];
	own_path(path);
	strcpy(strrchr(path, '/') + 1, "plugin.so");
	library = dlopen(path, RTLD_NOW);
	return library ? dlsym(library, name) : 0;
}

CALLED void in_library(void)
{
	void (*enters)(void) = (void (*)(void))plugin("plugin_enters");
	if (!enters)
		_exit(3);
	enters();
	sink++;
}

CALLED void called_back(void)
{
	null_write();
	sink++;
}

CALLED void calls_back(void)
{
	void (*calls)(void (*)(void)) = (void (*)(void (*)(void)))plugin("plugin_calls");
	if (!calls)
		_exit(3);
	calls(called_back);
	sink++;
}

// The code that it would return to is gone (musl keeps it).
CALLED void unloaded(void)
{
	dlclose(library);
	null_write();
	sink++;
}

CALLED void unloads(void)
{
	void (*calls)(void (*)(void)) = (void (*)(void (*)(void)))plugin("plugin_calls");
	if (!calls)
		_exit(3);
	calls(unloaded);
	sink++;
}

// The first process of a container: signals that nobody handles pass it by, but
// not a fault's.
CALLED void process_one(void)
{
	if (unshare(CLONE_NEWPID))
		_exit(3);
	pid_t child = fork();
	if (!child)
		null_write();
	int status = 0;
	waitpid(child, &status, 0);
	if (WIFSIGNALED(status))
		_exit(128 + WTERMSIG(status));
	sink++;
}

static const struct scenario scenarios[] = {
	{ "unlinked", unlinked },
	{ "worker", worker },
	{ "replaced", replaced },
	{ "in_memory", in_memory },
	{ "in_library", in_library },
	{ "called_back", calls_back },
	{ "unloads", unloads },
	{ "process_one", process_one },
	{ 0, 0 },
};

int main(int argc, char **argv)
{
	arguments = argv;
	return start(argc, argv, scenarios);
}
