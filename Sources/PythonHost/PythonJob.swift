package import Foundation
package import Jobs

/// One attempt of a Python job.
package struct PythonJob: Sendable {
    package var job: JobID
    package var attempt: Int
    package var token: Int
    /// The folder in MODULES whose code is watched; empty when the job's module stands in none.
    package var service: String
    /// `package.module.function` below MODULES.
    package var entry: String
    /// A program and its arguments that run instead of `entry`, which is then empty; nil for a function.
    package var command: [String]?
    /// The interpreter, an absolute path; nil for that of the configuration.
    package var python: String?
    /// Whether the module may be imported once for many jobs.
    package var preload: Bool

    // The function's arguments.
    package var jobName: String
    package var headers: JSONValue
    package var params: JSONValue
    package var addedParams: JSONValue

    package var data: URL
    /// The job's current folder. Made when it is missing; whoever made the job removes it.
    package var workdir: URL
    package var logs: URL
    /// The log's file, relative to `logs`.
    package var log: String
    package var timeout: JobTimeout
    /// Between SIGTERM and SIGKILL.
    package var grace: Duration
    /// Added to the environment of the host.
    package var environment: [String: String]
    /// Bytes that the job's processes may use together; nil for no limit.
    package var memory: Int64?
    /// 0 (as the worker) to 19 (last).
    package var nice: Int?
    /// `idle`, or `best-effort:0` to `best-effort:7`.
    package var ionice: String?
    /// The file of this attempt's checkpoint; nil: it keeps none.
    package var checkpoint: URL?
    /// Only imports the function, and looks whether it can be called so.
    package var isCheck = false

    package init(
        job: JobID,
        attempt: Int,
        token: Int,
        service: String,
        entry: String,
        jobName: String,
        headers: JSONValue,
        params: JSONValue,
        addedParams: JSONValue,
        data: URL,
        workdir: URL,
        logs: URL,
        log: String,
        timeout: JobTimeout,
        grace: Duration = .seconds(5),
        environment: [String: String] = [:],
        command: [String]? = nil,
        python: String? = nil,
        preload: Bool = true,
        memory: Int64? = nil,
        nice: Int? = nil,
        ionice: String? = nil,
        checkpoint: URL? = nil
    ) {
        self.job = job
        self.attempt = attempt
        self.token = token
        self.service = service
        self.entry = entry
        self.jobName = jobName
        self.headers = headers
        self.params = params
        self.addedParams = addedParams
        self.data = data
        self.workdir = workdir
        self.logs = logs
        self.log = log
        self.timeout = timeout
        self.grace = grace
        self.environment = environment
        self.command = command
        self.python = python
        self.preload = preload
        self.memory = memory
        self.nice = nice
        self.ionice = ionice
        self.checkpoint = checkpoint
    }

    /// Unique among the attempts that one host may run.
    var name: String { "\(job).\(attempt).\(token)" }

    var order: HostRequest.Run {
        HostRequest.Run(
            job: name,
            entry: entry,
            jobName: jobName,
            headers: headers,
            params: params,
            addedParams: addedParams,
            attempt: attempt,
            runId: job.run.rawValue,
            workdir: workdir.path,
            log: logs.appending(path: log).path,
            data: data.path,
            environment: environment,
            timeout: timeout.seconds,
            grace: grace / .seconds(1),
            memory: memory,
            nice: nice,
            ionice: ionice,
            command: command,
            checkpoint: checkpoint?.path,
            check: isCheck ? true : nil
        )
    }
}
