package import Jobs
package import Pipeline

/// What a run's jobs work on; never changes after planning.
package struct RunContext: Sendable, Hashable {
    package var source: JobSource
    /// Upstream's payload, `dcmpath` included.
    package var headers: JSONValue
    package var addedParams: [String: JSONValue]

    package init(source: JobSource, headers: JSONValue, addedParams: [String: JSONValue]) {
        self.source = source
        self.headers = headers
        self.addedParams = addedParams
    }
}

package struct StoredRun: Sendable, Hashable {
    package var run: Run
    package var context: RunContext

    package init(run: Run, context: RunContext) {
        self.run = run
        self.context = context
    }
}
