package import Foundation

/// A RabbitMQ node with everything of its own under one folder: what it is called, where it listens, who may log in.
package struct BrokerNode: Sendable, Equatable {
    package struct Ports: Sendable, Equatable {
        package var amqp: UInt16
        package var distribution: UInt16
        package var epmd: UInt16
        package var management: UInt16
        package var prometheus: UInt16

        package init(amqp: UInt16, distribution: UInt16, epmd: UInt16, management: UInt16, prometheus: UInt16) {
            self.amqp = amqp
            self.distribution = distribution
            self.epmd = epmd
            self.management = management
            self.prometheus = prometheus
        }

        package static func free() throws -> Ports {
            Ports(
                amqp: try FreePorts.next(),
                distribution: try FreePorts.next(),
                epmd: try FreePorts.next(),
                management: try FreePorts.next(),
                prometheus: try FreePorts.next(),
            )
        }
    }

    package var folder: URL
    package var logFile: URL
    package var ports: Ports
    package var user: String
    package var password: String
    package var cookie: String
    package var virtualHost: String
    /// The management UI, its API and the Prometheus endpoint: about 40 MiB and some seconds at start.
    package var management: Bool
    /// Lines added to rabbitmq.conf, after ours.
    package var extraConfiguration: [String]

    package init(
        folder: URL,
        logFile: URL? = nil,
        ports: Ports,
        user: String = "dcm",
        password: String = Secret.generate(),
        cookie: String = Secret.generate(),
        virtualHost: String = "dcm",
        management: Bool = false,
        extraConfiguration: [String] = [],
    ) {
        self.folder = folder
        self.logFile = logFile ?? folder.appendingPathComponent("broker.log")
        self.ports = ports
        self.user = user
        self.password = password
        self.cookie = cookie
        self.virtualHost = virtualHost
        self.management = management
        self.extraConfiguration = extraConfiguration
    }

    package var amqpURL: String { "amqp://\(user):\(password)@127.0.0.1:\(ports.amqp)/\(virtualHost)" }
    package var managementURL: String { "http://127.0.0.1:\(ports.management)" }
    package var nodeName: String { "dcm-processor@localhost" }
    var pidFile: URL { folder.appendingPathComponent("node.pid") }
    private var configurationFile: URL { folder.appendingPathComponent("rabbitmq.conf") }
    private var pluginsFile: URL { folder.appendingPathComponent("enabled_plugins") }
    private var homeFolder: URL { folder.appendingPathComponent("home") }
    private var dataFolder: URL { folder.appendingPathComponent("mnesia") }

    /// The Erlang machine's id as the node itself wrote it down.
    package var nodePid: pid_t? {
        (try? String(contentsOf: pidFile, encoding: .utf8)).flatMap { pid_t($0.trimmingCharacters(in: .whitespacesAndNewlines)) }
    }

    /// Writes rabbitmq.conf, the list of plugins and the cookie. Idempotent.
    package func writeFiles() throws {
        for part in [folder, homeFolder, dataFolder] { try FileSystem.makeFolder(part, mode: 0o700) }
        try FileSystem.write(configuration, to: configurationFile, mode: 0o600)
        try FileSystem.write(management ? "[rabbitmq_management,rabbitmq_prometheus].\n" : "[].\n", to: pluginsFile)
        // Erlang refuses a cookie that others may read.
        try FileSystem.write(cookie, to: homeFolder.appendingPathComponent(".erlang.cookie"), mode: 0o400)
    }

    private var configuration: String {
        var lines = [
            "listeners.tcp.default = 127.0.0.1:\(ports.amqp)",
            "default_vhost = \(virtualHost)",
            "default_user = \(user)",
            "default_pass = \(password)",
            "default_user_tags.administrator = true",
            "log.console = true",
            "log.console.level = info",
            "log.file = false",
            // A delivery may stay unacknowledged as long as a job may run: a day, where RabbitMQ's default is half an hour.
            "consumer_timeout = 87300000",
            "disk_free_limit.absolute = 200MB",
        ]
        if management {
            lines += [
                "management.tcp.ip = 127.0.0.1",
                "management.tcp.port = \(ports.management)",
                "prometheus.tcp.ip = 127.0.0.1",
                "prometheus.tcp.port = \(ports.prometheus)",
            ]
        }
        return (lines + extraConfiguration).joined(separator: "\n") + "\n"
    }

    /// Erlang's port mapper, in the foreground so that it ends with the node and not never.
    package func portMapper() throws -> Command {
        Command(
            name: "epmd",
            executable: try FileSystem.program("epmd"),
            arguments: ["-port", "\(ports.epmd)", "-address", "127.0.0.1"],
            environment: Command.plainEnvironment,
            logFile: logFile,
        )
    }

    package func server() throws -> Command {
        Command(
            name: "broker",
            executable: try Self.script("rabbitmq-server"),
            environment: environment,
            logFile: logFile,
        )
    }

    package func control(_ arguments: [String]) throws -> Command {
        Command(
            name: "rabbitmqctl",
            executable: try Self.script("rabbitmqctl"),
            arguments: arguments,
            environment: environment,
            logFile: folder.appendingPathComponent("rabbitmqctl-\(Secret.generate(length: 8)).out"),
        )
    }

    /// Debian's commands in /usr/sbin insist on the user `rabbitmq` and the system's node; the scripts behind them do not.
    private static func script(_ name: String) throws -> String {
        do {
            return try FileSystem.program(name, candidates: ["/usr/lib/rabbitmq/bin/\(name)", "/opt/rabbitmq/sbin/\(name)"])
        } catch {
            throw StackError(.notFound, "RabbitMQ's \(name) is not installed; on Debian and Ubuntu: apt-get install rabbitmq-server.")
        }
    }

    private var environment: [String: String] {
        // `-start_epmd false`: or Erlang would leave a daemon behind that nobody stops.
        let erlang = "-start_epmd false -kernel inet_dist_use_interface {127,0,0,1}"
        var values = Command.plainEnvironment
        values["HOME"] = homeFolder.path
        values["ERL_EPMD_PORT"] = "\(ports.epmd)"
        values["RABBITMQ_NODENAME"] = nodeName
        values["RABBITMQ_NODE_PORT"] = "\(ports.amqp)"
        values["RABBITMQ_DIST_PORT"] = "\(ports.distribution)"
        values["RABBITMQ_MNESIA_BASE"] = dataFolder.path
        values["RABBITMQ_LOG_BASE"] = folder.appendingPathComponent("log").path
        values["RABBITMQ_CONFIG_FILE"] = configurationFile.path
        values["RABBITMQ_ENABLED_PLUGINS_FILE"] = pluginsFile.path
        values["ERL_CRASH_DUMP"] = folder.appendingPathComponent("erl_crash.dump").path
        values["RABBITMQ_PID_FILE"] = pidFile.path
        // The system node's own settings in /etc/rabbitmq are not ours.
        values["RABBITMQ_CONF_ENV_FILE"] = "/dev/null"
        values["RABBITMQ_ADVANCED_CONFIG_FILE"] = folder.appendingPathComponent("advanced.config").path
        // Has the script replace itself by the Erlang machine: signals and exits are then the node's own.
        values["RUNNING_UNDER_SYSTEMD"] = "true"
        values["RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS"] = erlang
        values["RABBITMQ_CTL_ERL_ARGS"] = erlang
        return values
    }

    /// Whether the node logs its user in.
    package func logIn() async throws {
        try await AMQPProbe.logIn(port: ports.amqp, user: user, password: password)
    }
}
