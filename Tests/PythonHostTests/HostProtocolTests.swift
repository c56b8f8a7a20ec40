import Foundation
import Jobs
import Logging
import PythonHost
import TestSupport
import Testing

/// What passes between a worker and its Python host: any text unaltered, any nonsense without harm. The seeds make it the same every time.
@Suite(.timeLimit(.minutes(2)))
struct HostProtocolTests {
    @Test("Headers of any text and depth reach the job and come back unaltered")
    func headers() async throws {
        let tree = try ServiceTree([
            "svc.py": """
            import pathlib

            def echo(headers, **_):
                return headers

            def large(headers, params, **_):
                pathlib.Path(params).write_text(headers["text"], encoding="utf-8", newline="")
                depth = 0
                value = headers["deep"]
                while value:
                    value, depth = value[0], depth + 1
                return depth
            """
        ])
        var generator = SeededGenerator(seed: 5)
        try await withHosts(tree) { hosts in
            for attempt in 1...60 {
                let headers = JSONValue.object(["value": value(levels: 6, &generator), text(&generator): .string(text(&generator))])
                let exit = await hosts.run(tree.job("svc.echo", attempt: attempt, headers: headers), onProgress: { _, _ in })
                #expect(exit.result == headers, "headers \(attempt)")
            }
            var deep = JSONValue.array([])
            for _ in 0..<400 { deep = .array([deep]) }
            let long = String(repeating: text(&generator) + "é\u{0}\u{2028}\u{1F9E0}\r\n", count: 100_000)
            let file = tree.data.appending(path: "text")
            let exit = await hosts.run(
                tree.job("svc.large", attempt: 100, headers: ["text": .string(long), "deep": deep], params: .string(file.path)),
                onProgress: { _, _ in }
            )
            #expect(exit.result == 400, "\(exit)")
            let written = try Data(contentsOf: file)
            #expect(written == Data(long.utf8))
        }
    }

    @Test("A host that talks nonsense ends with its job, and the worker goes on", arguments: 1...12)
    func nonsense(seed: UInt64) async throws {
        let tree = try ServiceTree(["svc.py": "def worker(**_): return 1\n"])
        var generator = SeededGenerator(seed: seed)
        let answers = tree.folder.appending(path: "answers")
        try Self.answers(to: tree.job("svc.worker"), &generator).write(to: answers)
        let python = tree.folder.appending(path: "python")
        // It hears its order first, so that what it says may be about a job that waits.
        try Data("#!/bin/sh\nhead -c 600 <&3 >/dev/null\ncat '\(answers.path)' >&3\n".utf8).write(to: python)
        try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: python.path)
        try await withHosts(tree) { hosts in
            var job = tree.job("svc.worker")
            job.python = python.path
            let exit = await hosts.run(job, onProgress: { _, _ in })
            #expect(exit.kind != .cancelled, "\(exit)")
            let fine = await hosts.run(tree.job("svc.worker", attempt: 2), onProgress: { _, _ in })
            #expect(fine.result == 1)
        }
    }

    /// Some frames, some of which are none.
    private static func answers(to job: PythonJob, _ generator: inout SeededGenerator) -> Data {
        let name = "\(job.job).\(job.attempt).\(job.token)"
        let usage = #""usage":{"wall":-1e300,"user":0,"system":1e300,"peakMemory":-9223372036854775808}"#
        let bodies = [
            #"{"type":"hello","protocol":2,"pid":1,"python":"3"}"#, #"{"type":"started","job":"\#(name)","pid":2147483647}"#,
            #"{"type":"progress","job":"\#(name)","fraction":1e308,"text":"\u0000"}"#,
            #"{"type":"exited","job":"\#(name)","signal":9223372036854775807,"artifacts":[],\#(usage)}"#,
            #"{"type":"exited","job":"\#(name)","code":-9223372036854775808,"artifacts":[{"name":"","path":"../x","kind":""}],\#(usage)}"#,
            #"{"type":"exited","job":"\#(name)","stopped":"memory","excess":{"limit":-9223372036854775808},"artifacts":[],\#(usage)}"#,
            #"{"type":"exited","job":"another","artifacts":[],\#(usage)}"#, #"{"type":"exited","job":"\#(name)"}"#,
            #"{"type":"importing","job":7}"#, #"{"type":"refused","job":"\#(name)","reason":"mood"}"#, #"{"type":7}"#, "[]", "null", "",
            "{",
            String(repeating: "[", count: 100_000), "\u{0}\u{1}\u{2}",
        ]
        var answers = Data()
        for _ in 0..<Int.random(in: 1...6, using: &generator) {
            let body = Data(bodies.randomElement(using: &generator)!.utf8)
            var length = UInt32(body.count)
            switch Int.random(in: 0..<8, using: &generator) {
            case 0: length = .max
            case 1: length = UInt32.random(in: 0...(length * 2), using: &generator)
            case 2:
                answers.append(contentsOf: (0..<40).map { _ in UInt8.random(in: 0...255, using: &generator) })
                continue
            default: break
            }
            withUnsafeBytes(of: length.bigEndian) { answers.append(contentsOf: $0) }
            answers.append(body)
        }
        return answers
    }

    private func value(levels: Int, _ generator: inout SeededGenerator) -> JSONValue {
        switch Int.random(in: 0..<(levels == 0 ? 6 : 8), using: &generator) {
        case 0: return .null
        case 1: return .bool(.random(using: &generator))
        case 2: return .integer([Int64.min, .max, 0, -1, .random(in: .min ... .max, using: &generator)].randomElement(using: &generator)!)
        case 3: return .number(Double(Int.random(in: -1_000_000...1_000_000, using: &generator)) + 0.5)
        case 4, 5: return .string(text(&generator))
        case 6: return .array((0..<Int.random(in: 0...4, using: &generator)).map { _ in value(levels: levels - 1, &generator) })
        default:
            return .object(
                Dictionary(
                    (0..<Int.random(in: 0...4, using: &generator)).map { _ in (text(&generator), value(levels: levels - 1, &generator)) },
                    uniquingKeysWith: { first, _ in first }
                )
            )
        }
    }

    /// Whatever Unicode has, and what programs between the two sides might take for their own.
    private func text(_ generator: inout SeededGenerator) -> String {
        var text = ""
        for _ in 0..<Int.random(in: 0...12, using: &generator) {
            if Bool.random(using: &generator) {
                let pieces = [
                    "\u{0}", "\"", "\\", "\\u0000", "\\ud800", "\n", "\r\n", "'; rm -rf /", "$(reboot)", "`id`", "%s{0}", "\u{feff}",
                ]
                text += pieces.randomElement(using: &generator)!
            } else if let scalar = Unicode.Scalar(UInt32.random(in: 0...0x10ffff, using: &generator)) {
                text.unicodeScalars.append(scalar)
            }
        }
        return text
    }

    private func withHosts(_ tree: ServiceTree, _ body: (WarmHosts) async throws -> Void) async throws {
        let hosts = WarmHosts(
            configuration: tree.configuration(),
            logger: Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() })
        )
        do {
            try await body(hosts)
        } catch {
            await hosts.shutdown()
            throw error
        }
        await hosts.shutdown()
    }
}
