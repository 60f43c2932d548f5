// Runs every test in a process of its own and looks at how it ended.
#include "test.h"

#include <algorithm>
#include <cstring>
#include <set>
#include <sys/wait.h>
#include <unistd.h>

std::vector<Test>& tests() {
    static std::vector<Test> all;
    return all;
}

static void* module;
void set_up() {
    void* context;
    DO(cuInit(0));
    DO(cuDevicePrimaryCtxRetain(&context, 0));
    DO(cuCtxSetCurrent(context));
    DO(cuModuleLoadData(&module, "any bytes"));
}
void* function(const char* name) {
    void* found = nullptr;
    DO(cuModuleGetFunction(&found, module, name));
    return found;
}

#ifdef __SANITIZE_ADDRESS__
static constexpr bool SANITIZED = true;
#else
static constexpr bool SANITIZED = false;
#endif

// What stands between bars.
static std::vector<std::string> split(const std::string& all) {
    std::vector<std::string> words;
    for (size_t at = 0; at <= all.size();) {
        size_t bar = std::min(all.find('|', at), all.size());
        words.push_back(all.substr(at, bar - at));
        at = bar + 1;
    }
    return words;
}

// The child's words and how it ended.
static int run(const Test& test, std::string& words) {
    int ends[2];
    if (pipe(ends)) return -1;
    std::fflush(nullptr);
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], 2);
        close(ends[0]), close(ends[1]);
        alarm(120);
        for (const char* name : {"SOFTGPU_SCHEDULE", "SOFTGPU_DEVICE", "SOFTGPU_MEMORY", "SOFTGPU_CLUSTER", "SOFTGPU_LEAKS", "SOFTGPU_FAULT", "SOFTGPU_TIMEOUT"})
            unsetenv(name);  // a test sets what it needs
        test.run();
        std::exit(0);
    }
    close(ends[1]);
    char buffer[4096];
    for (ssize_t n; (n = read(ends[0], buffer, sizeof buffer)) > 0;) words.append(buffer, size_t(n));
    close(ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

int main(int count, char** arguments) {
    std::set<std::string> chosen(arguments + 1, arguments + count);
    bool verbose = chosen.erase("-v");
    int passed = 0, bad = 0;
    for (const Test& test : tests()) {
        if (!chosen.empty() && !chosen.count(test.name)) continue;
        std::string words, why;
        int status = run(test, words);
        if (!test.words) {
            if (status) why = "it ended with " + std::to_string(status);
        } else if (!status || status == 1) {
            why = "the planted fault did not fail the process: it ended with " + std::to_string(status);
        } else {
            const char* wanted = SANITIZED && test.sanitized ? test.sanitized : test.words;
            for (const std::string& word : split(wanted))
                if (words.find(word) == std::string::npos) why = "it does not say \"" + word + "\"";
        }
        if (why.empty()) ++passed;
        else ++bad, std::printf("FAILED %s: %s\n", test.name, why.c_str());
        if (!why.empty() || verbose) std::printf("--- %s:\n%s---\n", test.name, words.c_str());
    }
    std::printf("%d passed, %d failed\n", passed, bad);
    return bad != 0;
}
