/** Spark draws the last values of something, of so many at most; what it says is said in words beside it. */
export function Spark({ values, room = slots }: { values: number[]; room?: number }) {
	const width = 240;
	const height = 40;
	const most = Math.max(...values, 1e-9);
	const step = width / Math.max(room - 1, 1);
	const points = values.map((v, i) => {
		const x = width - (values.length - 1 - i) * step;
		return `${x.toFixed(1)},${(height - 2 - (v / most) * (height - 4)).toFixed(1)}`;
	});
	return (
		<svg className="spark" viewBox={`0 0 ${width} ${height}`} preserveAspectRatio="none" aria-hidden="true">
			<polyline points={points.join(" ")} />
		</svg>
	);
}

/** slots is how many values a Spark has room for, unless it is said. */
export const slots = 60;
