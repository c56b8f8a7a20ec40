import Foundation
import Jobs
import Pipeline
import Testing

@testable import Dashboard

@Suite(.timeLimit(.minutes(2)))
struct SecurityTests {
    @Test("Reachable from elsewhere without a token is refused, with the cure")
    func tokenNeeded() throws {
        let folder = FileManager.default.temporaryDirectory
        for host in ["0.0.0.0", "::", "192.168.1.10", "monitor.example.org", "127.0.0.1.example.org"] {
            let error = #expect(throws: DashboardError.self) { try DashboardConfiguration(host: host, data: folder, logs: folder) }
            #expect(error?.code == .noToken)
            #expect(error?.message.contains("MONITOR_TOKEN") == true)
        }
        for host in ["127.0.0.1", "127.4.5.6", "::1", "[::1]", "localhost"] {
            #expect(try !DashboardConfiguration(host: host, data: folder, logs: folder).needsSignIn)
            #expect(try !DashboardConfiguration(host: host, token: "", data: folder, logs: folder).needsSignIn)
            #expect(try DashboardConfiguration(host: host, token: "t", data: folder, logs: folder).needsSignIn)
        }
    }

    @Test("With a token people sign in and programs send it, on loopback too", arguments: ["0.0.0.0", "127.0.0.1"])
    func signIn(host: String) async throws {
        let sample = try SampleLedger()
        let hospital = try sample.fillHospital(older: 0)
        try await RunningDashboard.serving(sample, token: "correct-horse", host: host) { dashboard in
            #expect(try await dashboard.get("/healthz").status == 200)
            #expect(try await dashboard.get("/readyz").status == 200)
            // What a proxy on the same machine sends, and what it sends when it hands the public name on.
            for name in ["127.0.0.1", "localhost:\(dashboard.port)", "monitor.example.org"] {
                #expect(try await dashboard.get("/api/v1/runs", headers: ["Host": name]).status == 401, "\(name)")
            }
            #expect(try await dashboard.send("POST", "/api/v1/runs/\(hospital.failed)/retry").status == 401)
            for path in ["/api/v1/runs", "/metrics", "/artifacts/\(hospital.succeeded).3/preview/head.png"] {
                #expect(try await dashboard.get(path).status == 401, "\(path)")
            }
            let page = try await dashboard.get("/runs?state=failed")
            #expect(page.status == 303)
            #expect(page.headers["location"] == "/sign-in?next=%2Fruns%3Fstate%3Dfailed")
            #expect(try await dashboard.get("/metrics", headers: ["Authorization": "Bearer correct-horse"]).status == 200)
            #expect(try await dashboard.get("/metrics", headers: ["Authorization": "Bearer correct-hors"]).status == 401)

            let form = try await dashboard.openForm("/sign-in?next=/runs")
            let wrong = try await dashboard.send(
                "POST", "/sign-in", headers: ["Cookie": form.cookie], form: ["csrf": form.token, "token": "guess"])
            #expect(wrong.status == 401)
            let right = try await dashboard.send(
                "POST", "/sign-in", headers: ["Cookie": form.cookie], form: ["csrf": form.token, "token": "correct-horse", "next": "/runs"])
            #expect(right.status == 303)
            #expect(right.headers["location"] == "/runs")
            let cookie = try #require(right.headers["set-cookie"])
            #expect(cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax"))
            let session = String(cookie.prefix { $0 != ";" })
            #expect(session != form.cookie)
            #expect(try await dashboard.get("/runs", headers: ["Cookie": session]).status == 200)
            // The old, unsigned session stays outside.
            #expect(try await dashboard.get("/runs", headers: ["Cookie": form.cookie]).status == 303)

            let run = try await dashboard.openForm("/runs/\(hospital.failed)", cookie: session)
            let unsigned = try await dashboard.send("POST", "/api/v1/runs/\(hospital.failed)/retry", headers: ["Cookie": session])
            #expect(unsigned.status == 403)
            let signed = try await dashboard.send(
                "POST", "/api/v1/runs/\(hospital.failed)/retry", headers: ["Cookie": session, "X-CSRF-Token": run.token])
            #expect(signed.status == 202)
            #expect(dashboard.commands.sent.map(\.actor) == ["operator"])
            let out = try await dashboard.send("POST", "/sign-out", headers: ["Cookie": session], form: ["csrf": run.token])
            #expect(out.status == 303)
            #expect(try await dashboard.get("/runs", headers: ["Cookie": session]).status == 303)
        }
    }

    @Test("Guessing is slowed down")
    func throttle() async throws {
        let sample = try SampleLedger()
        try await RunningDashboard.serving(sample, token: "correct-horse", host: "0.0.0.0") { dashboard in
            // On a slow machine a short wait may be over before the next guess comes; the waits double.
            var statuses: [Int] = []
            while statuses.last != 429, statuses.count < 20 {
                statuses.append(try await dashboard.get("/metrics", headers: ["Authorization": "Bearer guess"]).status)
            }
            #expect(statuses.prefix(5) == [401, 401, 401, 401, 401])
            #expect(statuses.last == 429)
            // Who has the token is not shut out by who guesses from the same address, say behind the same proxy.
            #expect(try await dashboard.get("/metrics", headers: ["Authorization": "Bearer correct-horse"]).status == 200)
            let form = try await dashboard.openForm("/sign-in")
            statuses = []
            while statuses.last != 429, statuses.count < 20 {
                statuses.append(
                    try await dashboard.send(
                        "POST", "/sign-in", headers: ["Cookie": form.cookie], form: ["csrf": form.token, "token": "guess"]
                    ).status)
            }
            #expect(statuses.last == 429)
            let right = try await dashboard.send(
                "POST", "/sign-in", headers: ["Cookie": form.cookie], form: ["csrf": form.token, "token": "correct-horse"])
            #expect(right.status == 303)
        }
    }

    @Test("The wait doubles and ends")
    func throttleTimes() {
        let throttle = SignInThrottle()
        let now = Date()
        let a = SignInThrottle.Subject.address("a")
        let anna = SignInThrottle.Subject.account("anna")
        for _ in 0..<4 { throttle.failed(a, anna, at: now) }
        #expect(throttle.wait(for: a, at: now) == nil)
        throttle.failed(a, anna, at: now)
        #expect(throttle.wait(for: a, at: now) == 1)
        throttle.failed(a, at: now)
        #expect(throttle.wait(for: a, at: now) == 2)
        #expect(throttle.wait(for: a, at: now.addingTimeInterval(2.1)) == nil)
        #expect(throttle.wait(for: .address("b"), anna, at: now) == nil)
        for _ in 0..<40 { throttle.failed(a, anna, at: now) }
        #expect(throttle.wait(for: a, at: now) == 300)
        // From another address too, but not for as long.
        #expect(throttle.wait(for: .address("b"), anna, at: now) == 60)
        throttle.succeeded(a)
        #expect(throttle.wait(for: a, at: now) == nil)
    }

    @Test("Who tries under ever new names and addresses fills no memory")
    func throttleSize() {
        let throttle = SignInThrottle(capacity: 100)
        let now = Date()
        for _ in 0..<30 { throttle.failed(.address("worst"), at: now) }
        for number in 0..<1000 { throttle.failed(.address("a\(number)"), .account("n\(number)"), at: now) }
        #expect(throttle.count <= 101)
        #expect(throttle.wait(for: .address("worst"), at: now) == 300)
    }

    @Test("No other site acts in a user's name on loopback")
    func forgery() async throws {
        let sample = try SampleLedger()
        let hospital = try sample.fillHospital(older: 0)
        try await RunningDashboard.serving(sample) { dashboard in
            let path = "/api/v1/runs/\(hospital.failed)/retry"
            for headers in [
                ["Origin": "https://evil.example"], ["Origin": "null"], ["Origin": "http://127.0.0.1:1"], ["Sec-Fetch-Site": "cross-site"],
                ["Sec-Fetch-Site": "same-site"],
            ] {
                #expect(try await dashboard.send("POST", path, headers: headers).status == 403, "\(headers)")
            }
            // A name that another site has pointed at this machine.
            #expect(try await dashboard.get("/api/v1/runs", headers: ["Host": "evil.example:\(dashboard.port)"]).status == 421)
            #expect(try await dashboard.get("/api/v1/runs", headers: ["Host": "localhost:\(dashboard.port)"]).status == 200)
            #expect(try await dashboard.send("POST", "/runs/\(hospital.failed)/retry", form: [:]).status == 403)
            let form = try await dashboard.openForm("/runs/\(hospital.failed)")
            let other = try await dashboard.openForm("/runs/\(hospital.failed)")
            let crossed = try await dashboard.send(
                "POST", "/runs/\(hospital.failed)/retry", headers: ["Cookie": form.cookie], form: ["csrf": other.token])
            #expect(crossed.status == 403)
            #expect(dashboard.commands.sent.isEmpty)
            let good = try await dashboard.send(
                "POST", "/runs/\(hospital.failed)/retry",
                headers: ["Cookie": form.cookie, "Origin": "http://127.0.0.1:\(dashboard.port)", "Sec-Fetch-Site": "same-origin"],
                form: ["csrf": form.token])
            #expect(good.status == 303)
            #expect(good.headers["location"] == "/runs/\(hospital.failed)?done=retry-run")
            #expect(dashboard.commands.sent.map(\.action) == [.retryRun])
            #expect(dashboard.commands.sent.map(\.actor) == ["local"])
        }
    }

    @Test("Artifacts: only what this job handed over, only inside DATA, never as something that runs")
    func artifacts() async throws {
        let sample = try SampleLedger()
        let hospital = try sample.fillHospital(older: 0)
        try await RunningDashboard.serving(sample) { dashboard in
            let base = "/artifacts/\(hospital.succeeded).3"
            let picture = try await dashboard.get("\(base)/preview/head.png")
            #expect(picture.status == 200)
            #expect(picture.headers["content-type"] == "image/png")
            #expect(picture.data == SampleLedger.picture)
            #expect(picture.headers["cache-control"] == "no-store")
            #expect(picture.headers["content-security-policy"]?.contains("sandbox") == true)
            let volume = try await dashboard.get("\(base)/nifti/head.nii.gz")
            #expect(volume.headers["content-type"] == "application/octet-stream")
            #expect(volume.headers["content-disposition"]?.hasPrefix("attachment") == true)
            for path in [
                "\(base)/preview/gone.png", "\(base)/preview/link.txt", "\(base)/..%2Flogs%2Fsecret.txt", "\(base)/%2E%2E/logs/secret.txt",
                "/artifacts/\(hospital.failed).3/preview/head.png", "\(base)/preview",
            ] {
                let answer = try await dashboard.get(path)
                #expect(answer.status == 404, "\(path)")
                #expect(!answer.text.contains("treasure"))
            }
        }
    }

    @Test(
        "A redirect after signing in stays here",
        arguments: [
            ("/runs?state=failed", "/runs?state=failed"), ("//evil.example", "/"), ("https://evil.example", "/"), ("/\\evil.example", "/"),
            ("/a\r\nSet-Cookie: x", "/"), ("", "/"),
        ])
    func local(target: String, expected: String) {
        #expect(SignIn.local(target) == expected)
    }

    @Test(
        "Secrets compare",
        arguments: [("abc", "abc", true), ("abd", "abc", false), ("ab", "abc", false), ("abcd", "abc", false), ("", "", false)])
    func secrets(given: String, expected: String, matches: Bool) {
        #expect(Secret.matches(given, expected) == matches)
    }
}
